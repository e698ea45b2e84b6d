"""A real browser."""

import shutil
import time

import pytest

FLAGS = (
    *('headless', 'no-sandbox', 'disable-gpu', 'no-first-run', 'disable-background-networking'),
    *('disable-component-update', 'disable-sync', 'window-size=1280,1000'),
)


class Browser:
    """Chromium, with what these tests ask of a page."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, url):  # noqa: A003
        self.driver.get(url)
        return self

    def find(self, name):
        return self.driver.find_element('id', name)

    def text(self, name):
        return self.find(name).text

    def data(self, name, key):
        """Return a data-* attribute; '' without."""
        return self.find(name).get_attribute(f'data-{key}') or ''

    def until(self, condition, what, timeout=10):
        deadline = time.monotonic() + timeout
        while not (result := self._now(condition)):
            assert time.monotonic() < deadline, f'{what} did not come; {self.words()}'
            time.sleep(0.05)
        return result

    def _now(self, condition):
        from selenium.common.exceptions import StaleElementReferenceException

        try:
            return condition()
        except StaleElementReferenceException:  # another page is just coming
            return None

    def until_text(self, name, words, timeout=10):
        self.until(lambda: words in self.text(name), f'{words!r} in #{name}', timeout)

    def words(self):
        return self.find_all('header, #trouble, #answer, #health')

    def find_all(self, selector):
        return [each.text for each in self.driver.find_elements('css selector', selector)]

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def devtools(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)

    def place(self, name, box, size):
        """Return the corners (x, y) in px of the window of a box in px of an image."""
        rectangle = self.run(
            'const r = document.getElementById(arguments[0]).getBoundingClientRect();'
            'return [r.left, r.top, r.width, r.height]',
            name,
        )
        left, top, width, height = rectangle
        scale = min(width / size[0], height / size[1])
        left += (width - size[0] * scale) / 2  # object-fit: contain
        top += (height - size[1] * scale) / 2
        x, y, w, h = (value * scale for value in box)
        return (left + x, top + y), (left + x + w, top + y + h)

    def drag(self, start, end, hold=0.0):
        """Press the mouse, move it, wait, release it."""
        for kind, (x, y) in (('mousePressed', start), ('mouseMoved', end)):
            self.devtools(
                'Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', buttons=1,
                clickCount=1,
            )  # fmt: skip
        time.sleep(hold)
        x, y = end
        self.devtools(
            'Input.dispatchMouseEvent', type='mouseReleased', x=x, y=y, button='left', clickCount=1
        )

    def swipe(self, start, end):
        """Draw with a finger."""
        for kind, points in (('touchStart', [start]), ('touchMove', [end]), ('touchEnd', [])):
            points = [{'x': x, 'y': y} for x, y in points]
            self.devtools('Input.dispatchTouchEvent', type=kind, touchPoints=points)

    def phone(self):
        """Become a phone in portrait."""
        self.devtools(
            'Emulation.setDeviceMetricsOverride', width=390, height=844, deviceScaleFactor=2,
            mobile=True,
        )  # fmt: skip
        self.devtools('Emulation.setTouchEmulationEnabled', enabled=True)

    def desktop(self):
        self.devtools('Emulation.clearDeviceMetricsOverride')
        self.devtools('Emulation.setTouchEmulationEnabled', enabled=False)

    def complaints(self):
        """Return what the page's console says of errors, of scripts and of the content policy."""
        log = self.driver.get_log('browser')
        return [
            each['message']
            for each in log
            if each['level'] == 'SEVERE' and 'Failed to load resource' not in each['message']
            and 'WebSocket connection' not in each['message']
        ]  # fmt: skip


@pytest.fixture(scope='session')
def browser(tmp_path_factory):
    """Chromium without a window; skips where there is none."""
    webdriver = pytest.importorskip(
        'selenium.webdriver', reason="needs pip install 'tpf_tracker_ros[dev]'"
    )
    chromium, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if not (chromium and driver):
        pytest.skip('needs Chromium and its driver (Debian: chromium and chromium-driver)')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(f'--{flag}')
    options.add_argument(f'--user-data-dir={tmp_path_factory.mktemp("chromium")}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Browser(chrome)
    finally:
        chrome.quit()
