"""Recordings of every form are read; cut and damaged ones up to there."""

import random
import shutil
import sqlite3

import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from tpf_tracker_ros.bags.mcap_records import end_of_data, ENDING
from tpf_tracker_ros.bags.storage import Bag
from tpf_tracker_ros.bags.typestore import typestore
from tpf_tracker_ros.core.errors import TpfError

STRING = 'std_msgs/msg/String'


def text(index):
    noise = random.Random(index).randbytes(1000).hex()  # so that compression has work to do
    return typestore().types[STRING](f'message {index} {noise}')


def indices(bag):
    return [int(bag.decode(message).data.split()[1]) for message in bag.messages()]


@pytest.fixture
def folder(tmp_path):
    """Give a function (plugin, compression) -> a rosbag2 folder of 2000 messages."""

    def write(plugin='mcap', compression='none', *, name='recording', numbers=range(2000)):
        plugin = StoragePlugin[plugin.upper()]
        writer = Writer(tmp_path / name, version=9, storage_plugin=plugin)
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
        with writer:
            topic = writer.add_connection('/text', STRING, typestore=typestore())
            for index in numbers:
                data = typestore().serialize_cdr(text(index), STRING)
                writer.write(topic, 10**9 + index, data)
        return tmp_path / name

    return write


FORMS = [
    *(('mcap', compression) for compression in ('none', 'message', 'file', 'storage')),
    *(('sqlite3', compression) for compression in ('none', 'message', 'file')),
]


@pytest.mark.parametrize(('plugin', 'compression'), FORMS)
@pytest.mark.parametrize('metadata', [True, False])
def test_every_form(folder, plugin, compression, metadata, caplog):
    path = folder(plugin, compression)
    if not metadata:
        (path / 'metadata.yaml').unlink()
    bag = Bag(path)
    assert indices(bag) == list(range(2000))
    assert (bag.topics['/text'].kind, bag.topics['/text'].count) == (STRING, 2000)
    assert not caplog.text


@pytest.mark.parametrize('plugin', ['mcap', 'sqlite3'])
def test_split_recording_in_the_order_of_its_parts(folder, tmp_path, plugin):
    joined = tmp_path / 'joined'
    joined.mkdir()
    for part in range(11):
        (file,) = folder(
            plugin, name=f'part_{part}', numbers=range(part * 10, part * 10 + 10)
        ).glob('*.[md]*[p3]')
        shutil.copy(file, joined / f'rec_{part}{file.suffix}')
    assert indices(Bag(joined)) == list(range(110))


@pytest.mark.parametrize('plugin', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('compression', ['none', 'file'])
def test_cut_recording_is_read_up_to_the_cut(folder, plugin, compression, caplog):
    path = folder(plugin, compression)
    (file,) = (file for file in path.iterdir() if file.name != 'metadata.yaml')
    size = file.stat().st_size
    with file.open('r+b') as opened:
        opened.truncate(size * 2 // 3)
    bag = Bag(path)
    found = indices(bag)
    assert found == list(range(len(found)))
    assert 400 < len(found) < 1400
    assert len(caplog.records) <= 2 and 'cut' in caplog.text
    assert bag.topics['/text'].count == len(found)


@pytest.mark.parametrize('compression', ['none', 'storage'])
def test_cut_within_the_first_chunk(folder, compression):
    (file,) = folder('mcap', compression, numbers=range(400)).glob('*.mcap')
    with file.open('r+b') as opened:
        opened.truncate(file.stat().st_size // 2)
    bag = Bag(file)
    found = indices(bag)
    assert found == list(range(len(found))) and 100 < len(found) < 210
    assert bag.topics['/text'].count == len(found)


def test_indexless_mcap(folder, caplog):
    (file,) = folder('mcap').glob('*.mcap')
    with file.open('r+b') as opened:
        end = end_of_data(opened)
        opened.truncate(end)
        opened.seek(end)
        opened.write(ENDING)
    assert indices(Bag(file)) == list(range(2000))
    assert not caplog.text


def test_zeros_after_a_power_cut(folder):
    (file,) = folder('mcap').glob('*.mcap')
    with file.open('r+b') as opened:
        opened.truncate(2_500_000)
        opened.truncate(5_000_000)
    found = indices(Bag(file))
    assert found == list(range(len(found))) and len(found) > 900


def test_damage_in_the_middle_is_told_once(folder, caplog):
    (file,) = folder('mcap', 'storage').glob('*.mcap')
    with file.open('r+b') as opened:
        opened.seek(file.stat().st_size // 2)
        opened.write(b'damage' * 100)
    bag = Bag(file)
    assert indices(bag) == indices(bag)
    assert len(caplog.records) == 1 and 'damaged' in caplog.text


def test_unreadable_part_is_left_out(folder, caplog):
    path = folder('mcap')
    (path / 'zz_1.mcap').write_bytes(b'this is no mcap')
    assert indices(Bag(path)) == list(range(2000))
    assert 'zz_1.mcap cannot be read and is left out' in caplog.text


@pytest.mark.parametrize('name', ['no.mcap', 'no.db3', 'no.bag', 'no.mcap.zstd'])
@pytest.mark.parametrize('content', [b'', b'garbage' * 1000])
def test_garbage_gives_one_clear_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TpfError, match=r'no\.[^\n]*cannot be read as a bag: [^\n]+$'):
        Bag(tmp_path / name)


def test_missing_and_empty(tmp_path):
    with pytest.raises(TpfError, match='does not exist'):
        Bag(tmp_path / 'absent.mcap')
    with pytest.raises(TpfError, match='is no bag'):
        Bag(tmp_path)


def test_unknown_message_type_is_named(folder):
    (file,) = folder('sqlite3', numbers=range(1)).glob('*.db3')
    with sqlite3.connect(file) as database:
        database.execute("UPDATE topics SET type = 'my_msgs/msg/Thing'")
    bag = Bag(file)
    with pytest.raises(TpfError, match='my_msgs/msg/Thing'):
        bag.decode(next(bag.messages()))


FOREIGN = {
    'mcap/convert_a': 150,
    'mcap/convert_b': 75,
    'mcap/reindex_test_bags/multiple_files': 3177,
    'mcap/talker': 20,
    'mcap/wbag': 6074,
    'sqlite3/convert_a': 150,
    'sqlite3/convert_b': 75,
    'sqlite3/reindex_test_bags/multiple_files': 3177,
    'sqlite3/talker': 20,
    'sqlite3/wbag': 6074,
}


@pytest.mark.parametrize('name', FOREIGN)
def test_foreign_bags(shared_data, name, caplog):
    bag = Bag(shared_data / 'bags/rosbag2_py/test/resources' / name)
    messages = list(bag.messages())
    assert len(messages) == FOREIGN[name] == sum(topic.count for topic in bag.topics.values())
    assert [m.time for m in messages] == sorted(m.time for m in messages)
    assert not caplog.text


@pytest.mark.parametrize(('plugin', 'compression'), [FORMS[0], FORMS[3], FORMS[4]])
def test_wherever_the_cut_goes(folder, plugin, compression):
    """Never another exception than TpfError, never a wrong message, more data never less."""
    path = folder(plugin, compression, numbers=range(600))
    (file,) = (file for file in path.iterdir() if file.name != 'metadata.yaml')
    data, before = file.read_bytes(), 0
    for size in range(0, len(data), len(data) // 60):
        file.write_bytes(data[:size])
        try:
            found = indices(Bag(file))
        except TpfError:
            found = []
        assert found == list(range(len(found)))
        assert len(found) >= before
        before = len(found)
    assert before > 500
