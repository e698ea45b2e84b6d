/* The selective scan as it is defined, token after token, for 16 channels at a time: their states
   stay in the cache and each line is a few vector instructions. And the Mamba mixer around it, 32
   tokens at a time, so that nothing between its steps leaves the cache. See mamba_native.py. */

#include <stdint.h>
#include <string.h>

enum { LANES = 16, TOKENS = 32, ROWS = 4 }; /* ROWS: of a product, at a time */

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t Bits __attribute__((vector_size(LANES * sizeof(float))));
typedef Lanes Given __attribute__((aligned(sizeof(float)))); /* memory of the caller's */

static const float LOG2_E = 1.44269504f;

static inline long least(long a, long b) { return a < b ? a : b; }

static inline Lanes where(Bits mask, Lanes x, Lanes other) {
  return (Lanes)((mask & (Bits)x) | (~mask & (Bits)other));
}

/* 2 to the power of x <= 0, to about one unit in the last place (Cephes exp2f). */
static inline Lanes power(Lanes x) {
  x = where(x < -126.0f, (Lanes){0} - 126.0f, x);
  Lanes n = (x + 12582912.0f) - 12582912.0f; /* rounded: a float of that size has no fraction */
  Lanes r = x - n;
  Lanes p = 1.535336188319500e-4f * r + 1.339887440266574e-3f;
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  p = p * r + 1.0f;
  return p * (Lanes)((__builtin_convertvector(n, Bits) + 127) << 23);
}

/* exp(-|x|) */
static inline Lanes fade(Lanes x) { return power((Lanes)((Bits)x | INT32_MIN) * LOG2_E); }

static inline Lanes silu(Lanes x) {
  Lanes e = fade(x);
  return x * where(x < 0.0f, e, (Lanes){0} + 1.0f) / (1.0f + e);
}

/* log(1 + exp(x)), by the series of log(1 + e) = 2 atanh(e / (2 + e)). */
static inline Lanes softplus(Lanes x) {
  Lanes e = fade(x), s = e / (2.0f + e), q = s * s;
  Lanes p = q / 15 + 1.0f / 13;
  p = p * q + 1.0f / 11;
  p = p * q + 1.0f / 9;
  p = p * q + 1.0f / 7;
  p = p * q + 1.0f / 5;
  p = p * q + 1.0f / 3;
  p = p * q + 1.0f;
  return where(x > 0.0f, x, (Lanes){0}) + 2.0f * s * p;
}

/* One token: the states h (state) fade by step * rate, take in x b and are read out by c. */
static inline Lanes advance(Lanes *h, const Lanes *rate, Lanes x, Lanes step, const float *b,
                            const float *c, long state) {
  Lanes y = {0};
  for (long n = 0; n < state; n++) {
    h[n] = power(step * rate[n]) * h[n] + x * b[n];
    y += h[n] * c[n];
  }
  return y;
}

/* rate (state) of these lanes, for powers of two, from a (lanes, state). */
static void set_rate(Lanes *rate, const float *a, long lanes, long state) {
  memset(rate, 0, state * sizeof *rate);
  for (long n = 0; n < state; n++)
    for (long i = 0; i < lanes; i++) rate[n][i] = a[i * state + n] * LOG2_E;
}

/* As many numbers as there are lanes, zeros after them. */
static inline Lanes take(const float *from, long lanes) {
  Lanes taken = {0};
  if (lanes == LANES) return *(const Given *)from;
  memcpy(&taken, from, lanes * sizeof *from);
  return taken;
}

static inline void put(float *to, Lanes values, long lanes) {
  if (lanes == LANES)
    *(Given *)to = values;
  else
    memcpy(to, &values, lanes * sizeof *to);
}

/* Blocks first <= k < last of batch * ceil(channels / LANES). u, delta, y: (batch, length,
   channels); a: (channels, state); b, c: (batch, length, state). */
void scan(const float *u, const float *delta, const float *a, const float *b, const float *c,
          float *y, long length, long channels, long state, long first, long last) {
  long blocks = (channels + LANES - 1) / LANES;
  Lanes h[blocks][state], rate[blocks][state];
  for (long k = 0; k < blocks; k++)
    set_rate(rate[k], a + k * LANES * state, least(LANES, channels - k * LANES), state);
  for (long until; first < last; first = until) { /* the blocks of one sequence, token by token */
    long sequence = first / blocks;
    until = least(last, (sequence + 1) * blocks);
    memset(h, 0, sizeof h);
    for (long t = sequence * length; t < (sequence + 1) * length; t++)
      for (long k = first % blocks; k < first % blocks + until - first; k++) {
        long at = t * channels + k * LANES, lanes = least(LANES, channels - k * LANES);
        Lanes step = take(delta + at, lanes), x = step * take(u + at, lanes);
        put(y + at, advance(h[k], rate[k], x, step, b + t * state, c + t * state, state), lanes);
      }
  }
}

/* y (TOKENS, columns) = x (TOKENS, blocks) w (channels, columns), in lanes all but x's channels. */
static void multiply(const Lanes *x, const Given *w, Lanes *y, long blocks, long columns) {
  const float *numbers = (const float *)x;
  for (long t = 0; t < TOKENS; t += ROWS)
    for (long j = 0; j < columns; j++) {
      Lanes sum[ROWS] = {{0}};
      for (long i = 0; i < blocks * LANES; i++)
        for (int k = 0; k < ROWS; k++)
          sum[k] += numbers[(t + k) * blocks * LANES + i] * w[i * columns + j];
      for (int k = 0; k < ROWS; k++) y[(t + k) * columns + j] = sum[k];
    }
}

/* MambaMixer.mix along one way through a grid (height, width): along rows or `down` columns, from
   the end on if `back`. u: rows of u_pitch numbers, of which `channels` count; y: (height, width,
   channels); all weights in blocks of LANES, zeros after the last channel: taps (reach, blocks),
   project (blocks * LANES, columns), whose columns give delta's parts, b and c, widen (rank,
   blocks); a: (channels, state). */
void mix(const float *u, float *y, const Given *taps, const Given *bias, const Given *project,
         const Given *widen, const Given *delta_bias, const float *a, const Given *d, long height,
         long width, long channels, long u_pitch, long reach, long rank, long state, long columns,
         long down, long back) {
  long length = height * width, past = reach - 1, blocks = (channels + LANES - 1) / LANES;
  Lanes h[blocks][state], rate[blocks][state];
  Lanes given[past + TOKENS][blocks], v[TOKENS][blocks], parts[TOKENS][columns];
  memset(h, 0, sizeof h);
  memset(given, 0, sizeof given);
  memset(v, 0, sizeof v);
  for (long k = 0; k < blocks; k++)
    set_rate(rate[k], a + k * LANES * state, least(LANES, channels - k * LANES), state);
  for (long start = 0; start < length; start += TOKENS) {
    long count = least(TOKENS, length - start), at[TOKENS];
    for (long t = 0; t < count; t++) {
      long step = back ? length - 1 - start - t : start + t;
      at[t] = down ? step % height * width + step / height : step;
      for (long k = 0; k < blocks; k++) {
        long lanes = least(LANES, channels - k * LANES);
        Lanes sum = bias[k];
        given[past + t][k] = take(u + at[t] * u_pitch + k * LANES, lanes);
        for (long j = 0; j < reach; j++) sum += taps[j * blocks + k] * given[t + j][k];
        v[t][k] = silu(sum);
      }
    }
    memmove(given, given[TOKENS], past * sizeof *given);
    multiply(v[0], project, parts[0], blocks, columns);
    for (long t = 0; t < count; t++) {
      const float *part = (const float *)parts[t];
      for (long k = 0; k < blocks; k++) {
        Lanes delta = delta_bias[k];
        for (long j = 0; j < rank; j++) delta += part[j] * widen[j * blocks + k];
        delta = softplus(delta);
        Lanes output = advance(h[k], rate[k], delta * v[t][k], delta, part + rank,
                               part + rank + state, state);
        put(y + at[t] * channels + k * LANES, output + d[k] * v[t][k],
            least(LANES, channels - k * LANES));
      }
    }
  }
}
