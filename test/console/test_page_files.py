"""The page's colours: every text can be read, in light and in dark."""

from pathlib import Path
import re

import pytest
import tpf_tracker_ros

CSS = (Path(tpf_tracker_ros.__file__).parent / 'console/page/console.css').read_text()
LIGHT, DARK = (
    dict(re.findall(r'--([\w-]+): (#\w{6})', block))
    for block in re.findall(r':root \{(.*?)\}', CSS, re.DOTALL)
)


def luminance(colour):
    """Return that of WCAG 2."""
    parts = (int(pair, 16) / 255 for pair in re.findall('..', colour[1:]))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize('theme', [LIGHT, DARK], ids=['light', 'dark'])
def test_text_has_the_contrast_that_wcag_asks_for(theme):
    assert contrast('#000000', '#ffffff') == pytest.approx(21)
    for name in ('text', 'dim', 'good', 'doubt', 'bad', 'accent'):
        for behind in ('card', 'back'):
            assert contrast(theme[name], theme[behind]) >= 4.5, (name, behind)
    assert contrast(theme['on-accent'], theme['accent']) >= 4.5
    assert contrast(theme['curve'], theme['card']) >= 3
