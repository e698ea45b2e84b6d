"""What the help and the documentation tell users to type is what the command line takes."""

from contextlib import suppress
from pathlib import Path
import re
import shlex

import click
import pytest
from tpf_tracker_ros.cli import tpf

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')),
         *sorted((ROOT / 'tpf_tracker_ros/models/weights').glob('*.md'))]  # fmt: skip


def leaves(command, *names):
    """Return (names, command) of all commands that are no groups."""
    if not isinstance(command, click.Group):
        return [(names, command)]
    listed = [(name, command.get_command(None, name)) for name in command.list_commands(None)]
    return [leaf for name, each in listed for leaf in leaves(each, *names, name)]


LEAVES = dict(leaves(tpf))


def parse(line):
    """Let the command line parse a line of the shell, without running anything."""
    line = re.sub(r'^.*(-m tpf_tracker_ros\.cli|tpf) ', '', line.replace('STAGE', 'supervised'))
    words = shlex.split(line, comments=True)
    if words[1:] == [] and words[0] in tpf.commands:
        return  # a group, which lists its commands
    names = next(names for names in LEAVES if tuple(words[: len(names)]) == names)
    with suppress(click.exceptions.Exit):  # of --help
        rest = len(names)
        LEAVES[names].make_context(' '.join(names), words[rest:])


@pytest.mark.parametrize('names', LEAVES, ids=' '.join)
def test_each_command_has_an_example_that_it_takes(names):
    head, *lines = LEAVES[names].epilog.splitlines()[1:]
    assert head == 'Example:' and lines
    assert lines[0].startswith(f'  tpf {" ".join(names)}')
    for line in lines:
        parse(line)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_each_command_of_the_documentation_is_one(page):
    text = page.read_text().replace('\\\n', ' ')
    commands = r'(?:tpf|python benchmarks/[\w.]+)'
    lines = re.findall(rf'^ *({commands} [^`|\n]+)$', text, re.M)
    lines += re.findall(rf'`({commands} [^`]+)`', text)
    for line in lines:
        if line.startswith('tpf'):
            with suppress(click.MissingParameter):  # some lines name an option alone
                parse(re.sub(r'\w+\|', '', line.replace('...', '').replace('…', '')))
            continue
        script = ROOT / line.split()[1]
        known = script.read_text()
        for option in re.findall(r'--[\w-]+', line):
            assert f"'{option}'" in known, f'{script.name} has no {option}'


def test_what_errors_name_is_an_option_wherever_a_bag_is_opened():
    wanted = {'rgb_topic', 'thermal_topic', 'slop_ms', 'thermal_offset_ms'}
    for names in (('track',), ('replay',), ('bag', 'info'), ('bag', 'export')):
        assert wanted <= {option.name for option in LEAVES[names].params}
