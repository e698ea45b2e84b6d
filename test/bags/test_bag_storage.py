"""Recordings of every form are read; cut and damaged ones up to there."""

import random
import shutil
import sqlite3
import struct

from hypothesis import example, given, HealthCheck, settings
from hypothesis import strategies as st
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from tpf_tracker_ros.bags.mcap_records import end_of_data, ENDING, MAGIC
from tpf_tracker_ros.bags.storage import Bag, bag_files
from tpf_tracker_ros.bags.typestore import typestore, typestore_ros1
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
    (path / 'metadata.yaml').unlink()
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


@pytest.fixture
def ros1(tmp_path):
    """Give a function (compression, count) -> a ROS 1 bag of several chunks."""

    def write(compression='none', count=200):
        path = tmp_path / 'recording.bag'
        path.unlink(missing_ok=True)
        writer = Ros1Writer(path)
        if compression != 'none':
            writer.set_compression(Ros1Writer.CompressionFormat[compression.upper()])
        writer.chunk_threshold = 1 << 14
        with writer:
            topic = writer.add_connection('/text', STRING, typestore=typestore_ros1())
            for index in range(count):
                message = typestore_ros1().types[STRING](text(index).data)
                data = typestore_ros1().serialize_ros1(message, STRING)
                writer.write(topic, 10**9 + index, data)
        return path

    return write


@pytest.mark.parametrize('compression', ['none', 'bz2', 'lz4'])
@pytest.mark.parametrize('name', ['recording.bag', 'recording.bag.active'])
def test_a_ros1_bag_that_was_never_closed(ros1, compression, name, caplog):
    path = ros1(compression)
    data = path.read_bytes()
    # The recorder writes the index, and where it is, at the end.
    at = data.index(b'index_pos=') + len(b'index_pos=')
    (index,) = struct.unpack_from('<Q', data, at)
    path = path.with_name(name)
    behind = at + 8
    path.write_bytes(data[:at] + bytes(8) + data[behind:index])
    bag = Bag(path)
    assert indices(bag) == list(range(200))
    assert (bag.topics['/text'].kind, bag.topics['/text'].count) == (STRING, 200)
    assert 'is cut or was never closed' in caplog.text
    assert [message.time for message in bag.messages()] == [10**9 + i for i in range(200)]


SMALL = {
    'mcap': ('mcap', 'none'),
    'mcap, compressed': ('mcap', 'storage'),
    'sqlite3': ('sqlite3', 'none'),
    'sqlite3, compressed': ('sqlite3', 'file'),
}


@pytest.mark.parametrize('form', [*SMALL, 'ros1 none', 'ros1 bz2', 'ros1 lz4'])
def test_a_cut_at_any_byte_is_a_result_or_one_line(folder, ros1, form):
    if form in SMALL:
        files = folder(*SMALL[form], numbers=range(12)).iterdir()
        (file,) = (file for file in files if file.name != 'metadata.yaml')
    else:
        file = ros1(form.split()[1], count=12)
    data, found = file.read_bytes(), {}

    @settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
    @given(size=st.integers(0, len(data)), zeros=st.sampled_from([0, 0, 1, 3000]))
    @example(size=len(data) - 1, zeros=0)
    @example(size=len(data) // 2, zeros=0)
    @example(size=len(data), zeros=0)
    def cut(size, zeros):
        file.write_bytes(data[:size] + bytes(zeros))
        try:
            bag = Bag(file)
            found[size] = [bag.decode(message).data for message in bag.messages()]
        except TpfError as error:
            assert '\n' not in str(error)
            return
        # Zeros in the place of the last few bytes cannot be told from a message that has them.
        for index, got in enumerate(found[size]):
            left = got.rstrip('\0')
            assert text(index).data.startswith(left) and len(left) > 2000 - zeros

    cut()
    assert len(found[len(data)]) == 12
    if form in ('mcap', 'ros1 none'):
        assert 4 <= len(found[len(data) // 2]) <= 7


def test_messages_in_the_write_ahead_log(folder, tmp_path, caplog):
    (file,) = folder('sqlite3', numbers=range(10)).glob('*.db3')
    killed = tmp_path / 'killed'
    killed.mkdir()
    database = sqlite3.connect(file, isolation_level=None)
    database.execute('PRAGMA journal_mode=WAL')
    for index in range(10, 30):
        data = typestore().serialize_cdr(text(index), STRING)
        database.execute('INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)',
                         (10**9 + index, bytes(data)))  # fmt: skip
    for path in file.parent.iterdir():
        shutil.copy(path, killed)
    database.close()
    before = {path.name: path.read_bytes() for path in killed.iterdir()}
    assert indices(Bag(killed)) == list(range(30))
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == before
    for path in killed.glob('*-wal'):
        path.write_bytes(path.read_bytes()[:9000])  # cut, too: whole transactions count
    found = indices(Bag(killed))
    assert found == list(range(len(found))) and 10 <= len(found) < 30


def test_only_what_the_metadata_list_counts(folder, caplog):
    path = folder(numbers=range(10))
    (file,) = path.glob('*.mcap')
    other = folder(name='other', numbers=range(10, 20))
    shutil.copy(next(other.glob('*.mcap')), path / 'recording_1.mcap')
    assert indices(Bag(path)) == list(range(10))
    assert 'recording_1.mcap is not listed in its metadata.yaml' in caplog.text
    (path / 'recording_1.mcap').rename(path / 'recording_1.db3')  # of another format: no word
    assert [file.name for file in bag_files(path)] == [file.name]
    (path / 'recording_1.db3').rename(path / 'recording_1.mcap')
    file.unlink()
    assert indices(Bag(path)) == list(range(10, 20))
    assert f'lacks {file.name}, which its metadata.yaml lists' in caplog.text
    (path / 'metadata.yaml').write_text('rosbag2_bagfile_information: [cut')
    assert indices(Bag(path)) == list(range(10, 20))


@pytest.mark.parametrize('name', ['a#b', 'what?', '100%', '12:30', 'Flüge ☂', "it's", 'a b'])
@pytest.mark.parametrize('plugin', ['mcap', 'sqlite3'])
def test_odd_characters_in_paths(folder, plugin, name):
    # rosbags' writer does not know of such names.
    path = folder(plugin, numbers=range(3))
    assert indices(Bag(path.rename(path.with_name(name)))) == [0, 1, 2]


def mcap_of(path, *, profile, schema, encoding, kind, messages):
    """Write a plain MCAP of one topic, without an index."""

    def string(value):
        return struct.pack('<I', len(value)) + value.encode()

    def record(opcode, content):
        return struct.pack('<BQ', opcode, len(content)) + content

    parts = [
        MAGIC,
        record(1, string(profile) + string('test')),
        record(3, struct.pack('<H', 1) + string(kind) + string(schema) + string('')),
        record(4, struct.pack('<HH', 1, 1) + string('/text') + string(encoding) + string('')),
        *(record(5, struct.pack('<HIQQ', 1, 0, 10**9 + i, 10**9 + i) + bytes(data))
          for i, data in enumerate(messages)),
        ENDING,
    ]  # fmt: skip
    path.write_bytes(b''.join(parts))


@pytest.mark.parametrize('profile', ['ros2', 'ros1', '', 'foxglove'])
@pytest.mark.parametrize('encoding', ['cdr', 'ros1'])
def test_a_message_in_mcap_is_what_its_channel_says(tmp_path, caplog, profile, encoding):
    path = tmp_path / 'a.mcap'
    if encoding == 'cdr':
        data = [typestore().serialize_cdr(text(index), STRING) for index in range(5)]
        how = {'schema': 'ros2msg', 'kind': STRING}
    else:
        messages = [typestore_ros1().types[STRING](text(index).data) for index in range(5)]
        data = [typestore_ros1().serialize_ros1(message, STRING) for message in messages]
        how = {'schema': 'ros1msg', 'kind': 'std_msgs/String'}
    mcap_of(path, profile=profile, encoding=encoding, messages=data, **how)
    bag = Bag(path)
    assert indices(bag) == list(range(5))
    assert (bag.topics['/text'].kind, bag.topics['/text'].count) == (STRING, 5)
    assert not caplog.text


@pytest.mark.parametrize('schema', ['jsonschema', 'protobuf'])
def test_messages_that_are_not_of_ros_are_listed_and_named(tmp_path, schema):
    path = tmp_path / 'a.mcap'
    encoding = schema.removesuffix('schema')
    mcap_of(
        path, profile='', encoding=encoding, schema=schema, kind='foxglove.X', messages=[b'{}']
    )
    bag = Bag(path)
    assert (bag.topics['/text'].kind, bag.topics['/text'].count) == ('foxglove.X', 1)
    with pytest.raises(TpfError, match=f'/text are {encoding}, not ROS'):
        bag.decode(next(bag.messages()))
