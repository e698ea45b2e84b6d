'use strict';
// The page of a tracker: images with boxes, commands, curves, health, live parameters.

const NAMES = { rgb: 'RGB', thermal: 'Thermal', fused: 'Fused' };
// A mark and words for each state, so that no colour alone carries it; colours as in the overlay.
const STATES = {
  TRACKING: ['●', 'Tracking', '#00dc96'],
  UNCERTAIN: ['◐', 'Uncertain: the match is weak', '#e69f00'],
  LOST: ['✕', 'Lost: draw a new box, or wait for a detection', '#d55e00'],
  STALLED: ['✕', 'Stalled: no image pair was finished lately', '#d55e00'],
  IDLE: ['○', 'No target: draw a box', '#999999'],
};
const MARKS = { ok: '●', warning: '▲', error: '✕', stale: '✕' };
const LEVELS = { ok: 'OK', warning: 'Warning', error: 'Error', stale: 'Silent' };
const NUMBERS = {
  pairs: 'Pairs received', published: 'Pairs tracked', dropped: 'Dropped: tracker was busy',
  unpaired_rgb: 'RGB without partner', unpaired_thermal: 'Thermal without partner',
  lost_rgb: 'RGB lost on the way', lost_thermal: 'Thermal lost on the way',
  late_rgb: 'RGB too late', late_thermal: 'Thermal too late', single: 'With one camera alone',
  history: 'Past frames kept', template_updates: 'Template updates', time_jumps: 'Jumps of time', problems: 'Problems so far',
  resident_mb: 'Memory, MB',
};
const MINUTE = 300; // points of the curves
const RETRY = 1500; // ms
const HINT = 'Draw a box around the target with mouse or finger.';
const LEAST = 3; // px of the image, a smaller box is a click

const $ = (id) => document.getElementById(id);
const panels = new Map(); // view -> Panel
const waiting = new Map(); // number of a message -> what to do with its answer
let socket = null;
let mode = '';
let status = {};
let curves = [];
let shown = null; // views that are switched on
let number = 0;

// ---- connection ----

function connect() {
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  socket = new WebSocket(`${scheme}://${location.host}/socket`);
  socket.binaryType = 'arraybuffer';
  socket.onmessage = (event) => {
    if (typeof event.data === 'string') take(JSON.parse(event.data));
    else takeImage(event.data);
  };
  socket.onclose = (event) => {
    waiting.clear();
    if (status.done) {
      setTimeout(retry, RETRY); // perhaps the same address shows the run next
      return;
    }
    status = {};
    const why = event.reason ? `: ${event.reason}` : '';
    trouble(`Connection to the console lost${why}. Trying again…`);
    showState();
    setTimeout(retry, RETRY);
  };
}

async function retry() {
  // A console that was started anew may ask for a new token.
  const answer = await fetch('/', { cache: 'no-store' }).catch(() => null);
  if (answer && answer.status === 401) location.reload();
  else connect();
}

function send(type, content = {}, answered = () => {}) {
  if (!socket || socket.readyState !== WebSocket.OPEN) {
    answered(false, 'not sent: the connection to the console is lost');
    return;
  }
  number += 1;
  if (type !== 'drawn' && type !== 'watch') waiting.set(number, answered);
  socket.send(JSON.stringify({ type, number, ...content }));
}

function take(message) {
  if (message.type === 'hello') begin(message);
  else if (message.type === 'status') update(message);
  else if (message.type === 'answer') {
    const answered = waiting.get(message.to) || say;
    waiting.delete(message.to);
    answered(message.ok, message.words);
  }
}

function begin(hello) {
  mode = hello.mode;
  document.body.className = mode;
  document.title = hello.title;
  $('title').textContent = hello.title;
  curves = hello.curves || [];
  for (const button of document.querySelectorAll('button')) button.disabled = false;
  status = {};
  shown = shown && shown.size ? shown : null;
  say(true, hello.hint || HINT);
  if (hello.rows) buildRows(hello.rows);
  if (mode === 'ask') showState();
  watch();
}

function watch() {
  const views = document.hidden || !shown ? [] : [...shown];
  send('watch', { views });
}

// ---- status ----

function update(changes) {
  Object.assign(status, changes);
  if (changes.views) showViews();
  if (changes.done) finish(changes.done);
  if ('frame' in changes) $('frame').textContent = `frame ${changes.frame + 1} of ${status.frames}`;
  if ('alive' in changes || 'state' in changes) showState();
  if ('score' in changes || 'modality' in changes) showScore();
  if (changes.health) showHealth();
  if (changes.numbers) showNumbers();
  if (changes.values) showValues();
  if (changes.curve) {
    curves.push(changes.curve);
    while (curves.length > MINUTE) curves.shift();
    drawCurves();
  }
}

function showState() {
  let [mark, words] = ['○', 'Connecting'];
  let state = status.state || '';
  if (mode === 'ask') [mark, words] = ['○', 'Choose the target'];
  else if (status.alive === false) {
    state = 'gone';
    [mark, words] = ['✕', 'No tracker'];
    trouble(`${$('title').textContent} does not answer. Waiting for it…`);
  } else if (status.alive) {
    trouble('');
    [mark, words] = STATES[state] || ['○', 'Not active'];
  } else if (status.alive === undefined && mode === 'live') [mark, words] = ['✕', 'Not connected'];
  const element = $('state');
  if (element.dataset.state === state && element.lastElementChild.textContent === words) return;
  element.dataset.state = state;
  element.firstElementChild.textContent = mark;
  element.lastElementChild.textContent = words;
  for (const panel of panels.values()) panel.paint();
}

function showScore() {
  const parts = [];
  if (status.score) parts.push(`score ${Number(status.score).toFixed(2)}`);
  if (status.modality) parts.push(`from ${status.modality.replace('+', ' and ')}`);
  $('score').textContent = parts.join(', ');
}

function showHealth() {
  const items = status.health.map((each) => {
    const item = document.createElement('li');
    item.className = each.level;
    const rate = each.values.hz ? ` (${each.values.hz} Hz, ${each.values.topic})` : '';
    item.append(
      span('mark', MARKS[each.level], true),
      ` ${LEVELS[each.level]}, ${each.name}: `,
      span('text', (each.message || 'nothing to complain of') + rate),
    );
    return item;
  });
  $('health').replaceChildren(...items);
}

function showNumbers() {
  const rows = Object.entries(NUMBERS).filter(([key]) => key in status.numbers);
  $('numbers').replaceChildren(...rows.map(([key, name]) => {
    const row = document.createElement('div');
    const term = document.createElement('dt');
    const value = document.createElement('dd');
    term.textContent = name;
    value.textContent = status.numbers[key];
    row.append(term, value);
    return row;
  }));
}

function span(kind, text, hidden = false) {
  const element = document.createElement('span');
  element.className = kind;
  element.textContent = text;
  if (hidden) element.setAttribute('aria-hidden', 'true');
  return element;
}

function say(ok, words) {
  const line = $('answer');
  line.className = ok ? '' : 'refused';
  line.textContent = ok ? words : `✕ Refused: ${words}`;
}

function trouble(words) {
  if ($('trouble').textContent === words) return;
  $('trouble').textContent = words;
  $('trouble').hidden = !words;
}

function finish(words) {
  say(true, words);
  for (const button of document.querySelectorAll('button')) button.disabled = true;
}

// ---- images ----

class Panel {
  constructor(view) {
    this.view = view;
    this.facts = null; // of the image shown
    this.bitmap = null;
    this.drag = null; // {facts, from, to} in px of the image, while a box is drawn
    this.figure = document.createElement('figure');
    this.caption = document.createElement('figcaption');
    this.caption.append(NAMES[view], document.createElement('output'));
    this.lost = document.createElement('p');
    this.lost.className = 'lost';
    this.canvas = document.createElement('canvas');
    this.canvas.width = 640;
    this.canvas.height = 480;
    this.canvas.id = `image-${view}`;
    this.canvas.setAttribute('role', 'img');
    this.canvas.setAttribute('aria-label', `${NAMES[view]} image; the box can also be given in numbers below`);
    this.figure.append(this.caption, this.lost, this.canvas);
    for (const [event, action] of Object.entries({
      pointerdown: this.press, pointermove: this.move, pointerup: this.release,
      pointercancel: this.cancel,
    })) this.canvas.addEventListener(event, action.bind(this));
  }

  show(facts, bitmap) {
    if (this.drag) { // the image stands still while a box is drawn on it
      if (bitmap) bitmap.close();
      return;
    }
    this.lost.textContent = facts.trouble ? `✕ ${facts.trouble}` : '';
    if (!bitmap) return;
    if (this.bitmap) this.bitmap.close();
    this.facts = facts;
    this.bitmap = bitmap;
    this.paint();
  }

  paint() {
    if (!this.bitmap) return;
    const { canvas, bitmap, facts, drag } = this;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
    const context = canvas.getContext('2d');
    context.drawImage(bitmap, 0, 0);
    const pen = canvas.width / Math.max(1, canvas.clientWidth); // px of the canvas in one of CSS
    const scale = bitmap.width / facts.width;
    if (drag) this.frame(context, rectangle(drag), scale, 2 * pen, '#ffffff');
    else if (facts.box) {
      const colour = (STATES[status.state] || STATES.TRACKING)[2];
      this.frame(context, facts.box, scale, 2 * pen, colour);
    }
    const seconds = Number(facts.stamp) / 1e9;
    this.caption.lastElementChild.textContent = mode === 'live' ? `${seconds.toFixed(2)} s` : '';
    canvas.dataset.stamp = facts.stamp;
    canvas.dataset.box = facts.box ? facts.box.join(',') : '';
  }

  frame(context, [x, y, w, h], scale, width, colour) {
    for (const [stroke, style] of [[2 * width, '#000000'], [width, colour]]) {
      context.lineWidth = stroke;
      context.strokeStyle = style;
      context.strokeRect(x * scale - width, y * scale - width, w * scale + 2 * width, h * scale + 2 * width);
    }
  }

  // Where a pointer is, in px of the image as it was taken; object-fit may leave margins.
  at(event) {
    const { canvas, facts } = this;
    const place = canvas.getBoundingClientRect();
    const scale = Math.min(place.width / canvas.width, place.height / canvas.height);
    const left = place.left + (place.width - canvas.width * scale) / 2;
    const top = place.top + (place.height - canvas.height * scale) / 2;
    const full = facts.width / canvas.width / scale;
    const bound = (value, most) => Math.min(Math.max(value, 0), most);
    return [
      bound((event.clientX - left) * full, facts.width),
      bound((event.clientY - top) * full, facts.height),
    ];
  }

  press(event) {
    if (!this.bitmap || !event.isPrimary || event.button !== 0) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    const from = this.at(event);
    this.drag = { from, to: from };
  }

  move(event) {
    if (!this.drag) return;
    this.drag.to = this.at(event);
    this.paint();
  }

  release(event) {
    if (!this.drag) return;
    this.drag.to = this.at(event);
    const box = rectangle(this.drag);
    this.drag = null;
    this.paint();
    if (box[2] < LEAST || box[3] < LEAST) say(true, HINT);
    else setTarget(box, this.facts.stamp);
  }

  cancel() {
    this.drag = null;
    this.paint();
  }
}

function rectangle({ from, to }) {
  const [x, y] = [Math.min(from[0], to[0]), Math.min(from[1], to[1])];
  const box = [x, y, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])];
  return box.map((value) => Math.round(value * 10) / 10);
}

function setTarget(box, stamp) {
  say(true, `Setting the target ${box.join(', ')}…`);
  send('target', { box, stamp }, say);
}

async function takeImage(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const facts = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const panel = panels.get(facts.view);
  const jpeg = new Blob([new Uint8Array(buffer, 4 + length)], { type: 'image/jpeg' });
  const bitmap = jpeg.size ? await createImageBitmap(jpeg).catch(() => null) : null;
  if (panel) panel.show(facts, bitmap);
  send('drawn', { view: facts.view });
}

function showViews() {
  const { views } = status;
  if (!shown && views.length) {
    // As many as there is room for; the fused image costs the tracker something, so not unasked.
    const cameras = views.filter((view) => view !== 'fused');
    const room = window.innerWidth >= 900 ? 2 : 1;
    shown = new Set((cameras.length ? cameras : views).slice(0, room));
    watch();
  }
  for (const view of views) if (!panels.has(view)) panels.set(view, new Panel(view));
  $('views').replaceChildren(...views.map((view) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.id = `view-${view}`;
    button.textContent = NAMES[view];
    button.setAttribute('aria-pressed', String(shown.has(view)));
    button.onclick = () => toggle(view, button);
    return button;
  }));
  arrange();
}

function toggle(view, button) {
  if (shown.has(view)) shown.delete(view);
  else shown.add(view);
  button.setAttribute('aria-pressed', String(shown.has(view)));
  arrange();
  watch();
}

function arrange() {
  const figures = [...panels.values()].filter((panel) => shown && shown.has(panel.view));
  $('images').replaceChildren(...figures.map((panel) => panel.figure));
}

// ---- curves: points are [time, score, latency ms, skew ms] ----

function drawCurves() {
  drawCurve('score', 1, [0, 1], 2);
  drawCurve('latency', 2, [0, null], 1);
  drawCurve('skew', 3, [null, null], 1);
}

function drawCurve(name, column, [least, most], digits) {
  const canvas = $(`${name}-curve`);
  const values = curves.map((point) => point[column]);
  const known = values.filter((value) => value !== null);
  const now = values.length ? values[values.length - 1] : null;
  $(`${name}-now`).textContent = now === null ? 'none' : now.toFixed(digits);
  const low = least ?? Math.min(0, ...known);
  const high = most ?? Math.max(low + 1, ...known) * 1.1;
  const range = known.length ? `${Math.min(...known).toFixed(digits)} to ${Math.max(...known).toFixed(digits)}` : 'no values';
  canvas.setAttribute('aria-label', `${name} over the last minute: ${range}`);
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const colour = (key) => style.getPropertyValue(key);
  const [left, right, top, bottom] = [38, width - 4, 6, height - 18];
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  context.font = '12px system-ui, sans-serif';
  context.fillStyle = colour('--dim');
  context.strokeStyle = colour('--line');
  context.textAlign = 'right';
  for (const value of [low, high]) {
    context.fillText(value.toFixed(high - low < 3 ? 1 : 0), left - 5, y(value) + 4);
    line(context, [[left, y(value)], [right, y(value)]]);
  }
  context.fillText('now', right, height - 4);
  context.textAlign = 'left';
  context.fillText('1 min ago', left, height - 4);
  context.strokeStyle = colour('--curve');
  context.lineWidth = 2;
  let part = [];
  values.forEach((value, index) => {
    const x = right - ((values.length - 1 - index) / (MINUTE - 1)) * (right - left);
    if (value === null) {
      line(context, part);
      part = [];
    } else part.push([x, y(Math.min(Math.max(value, low), high))]);
  });
  line(context, part);
}

function line(context, points) {
  context.beginPath();
  points.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
}

// ---- live parameters ----

function buildRows(rows) {
  const groups = new Map();
  for (const row of rows) {
    const group = row.name.includes('.') ? row.name.split('.')[0] : 'node';
    if (!groups.has(group)) {
      const set = document.createElement('fieldset');
      const legend = document.createElement('legend');
      legend.textContent = group;
      set.append(legend);
      groups.set(group, set);
    }
    groups.get(group).append(buildRow(row));
  }
  $('rows').replaceChildren(...groups.values());
}

function buildRow(row) {
  const element = document.createElement('div');
  element.className = row.kind === 'list' || row.kind === 'str' ? 'row wide' : 'row';
  const id = `parameter-${row.name}`;
  const label = document.createElement('label');
  label.htmlFor = id;
  label.textContent = row.name;
  const input = field(row);
  input.id = id;
  input.dataset.kind = row.kind;
  input.setAttribute('aria-describedby', `${id}-note`);
  const note = span('note', row.description + (row.allowed ? ` (${row.allowed})` : ''));
  note.id = `${id}-note`;
  const answer = document.createElement('output');
  input.onchange = () => {
    answer.className = '';
    answer.textContent = '…';
    send('set', { name: row.name, value: read(input) }, (ok, words) => {
      answer.className = ok ? '' : 'refused';
      answer.textContent = ok ? `✓ ${words}` : `✕ Refused: ${words}`;
      if (!ok) write(input, status.values[row.name]);
    });
  };
  element.append(label, input, note, answer);
  return element;
}

function field(row) {
  if (row.choices.length) {
    const select = document.createElement('select');
    select.append(...row.choices.map((choice) => new Option(choice)));
    return select;
  }
  const input = document.createElement('input');
  if (row.kind === 'bool') input.type = 'checkbox';
  else if (row.kind === 'int' || row.kind === 'float') {
    // Without min and max: the node refuses, in its own words, what is out of range.
    input.type = 'number';
    input.step = 'any';
  } else input.type = 'text';
  return input;
}

function read(input) {
  if (input.type === 'checkbox') return input.checked;
  if (input.type === 'number') return input.valueAsNumber;
  if (input.dataset.kind === 'list') return input.value.split(',').map(Number);
  return input.value;
}

function write(input, value) {
  if (input.type === 'checkbox') input.checked = value;
  else input.value = Array.isArray(value) ? value.join(', ') : value;
}

function showValues() {
  for (const [name, value] of Object.entries(status.values)) {
    const input = $(`parameter-${name}`);
    if (input && input !== document.activeElement) write(input, value);
  }
}

// ---- begin ----

$('reset').onclick = () => send('reset', {}, say);
$('stop').onclick = () => send('stop', {}, say);
for (const button of document.querySelectorAll('[data-step]')) {
  button.onclick = () => send('step', { by: Number(button.dataset.step) }, (ok, words) => ok || say(ok, words));
}
$('box').onsubmit = (event) => {
  event.preventDefault();
  const fields = new FormData($('box'));
  const panel = [...panels.values()].find((each) => shown.has(each.view) && each.facts);
  const box = ['x', 'y', 'w', 'h'].map((key) => Number(fields.get(key)));
  setTarget(box, panel ? panel.facts.stamp : null);
};
document.addEventListener('visibilitychange', watch);
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') for (const panel of panels.values()) panel.cancel();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawCurves);
window.addEventListener('resize', drawCurves);
connect();
