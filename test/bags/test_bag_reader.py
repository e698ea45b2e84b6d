"""Bags as sequences: topics are found, frames paired, ground truth aligned, faults named."""

import re

import numpy as np
import pytest
from tpf_tracker_ros.bags.info import describe
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.storage import Bag
from tpf_tracker_ros.bags.typestore import typestore
from tpf_tracker_ros.bags.writer import BagWriter
from tpf_tracker_ros.core.errors import TpfError

START = 1_700_000_000_000_000_000
COLOUR = np.zeros((8, 8, 3), np.uint8)
GREY = np.zeros((8, 8), np.uint8)
DEEP = np.zeros((8, 8), np.uint16)


@pytest.mark.parametrize('compression', [None, 'jpeg', 'png'])
def test_pairs_and_ground_truth(write_bag, compression):
    sequence = BagSequence(write_bag(10, compression=compression))
    pairs = list(sequence)
    assert sequence.name == 'bag' and len(sequence) == len(pairs) == 10
    assert [pair.modality for pair in pairs] == ['rgb+thermal'] * 10
    assert [pair.stamp for pair in pairs] == [START + i * 33_333_333 for i in range(10)]
    assert [int(pair.thermal[5, 5]) for pair in pairs] == list(range(7000, 7010))
    assert all(abs(int(pair.rgb[5, 5, 0]) - i) <= 2 for i, pair in enumerate(pairs))
    assert np.isnan(sequence.ground_truth[3]).all()
    np.testing.assert_array_equal(sequence.ground_truth[4], [4, 5, 20, 10])
    assert len(sequence.ground_truth) == 10


def test_a_sequence_can_be_read_twice_at_once(write_bag):
    sequence = BagSequence(write_bag(40, size=(320, 240)))
    for first, second in zip(sequence, sequence):
        assert first.stamp == second.stamp
        np.testing.assert_array_equal(first.rgb, second.rgb)


@pytest.mark.parametrize('camera', ['rgb', 'thermal'])
def test_bag_of_one_camera(write_bag, camera, caplog):
    path = write_bag(5, cameras=[camera])
    assert {pair.modality for pair in BagSequence(path)} == {camera}
    other = 'thermal' if camera == 'rgb' else 'rgb'
    assert f'has no {other} images' in caplog.text
    with pytest.raises(TpfError, match=f'has no topic /{other}; its image topics: /{camera}/'):
        BagSequence(path, **{f'{other}_topic': f'/{other}'})


def test_one_camera_left_out_on_purpose(write_bag, caplog):
    sequence = BagSequence(write_bag(5), thermal_topic='')
    assert {pair.modality for pair in sequence} == {'rgb'} and not caplog.text


def bag_of(tmp_path, images):
    """Return a bag with one frame a topic."""
    with BagWriter(tmp_path / 'topics.mcap') as bag:
        for topic, image in images.items():
            compressed = topic.endswith('/compressed')
            bag.write_image(
                topic.removesuffix('/compressed'),
                image,
                START,
                frame_id='camera',
                compression='png' if compressed else None,
            )
    return tmp_path / 'topics.mcap'


@pytest.mark.parametrize(
    ('rgb', 'thermal', 'others'),
    [
        ('/rgb/image_raw', '/thermal/image_raw', {}),
        ('/camera/color/image_raw', '/flir_boson/image_raw', {'/camera/depth/image_raw': DEEP}),
        ('/zed/visible/image', '/lwir', {'/tpf_tracker/fused_image': COLOUR}),
        ('/camera1/image', '/camera2/image', {}),  # by encoding alone
        ('/front/image_raw', '/ThermalCamera/img', {'/tpf_tracker/overlay': COLOUR}),
        ('/flir/rgb/image_raw', '/flir/thermal/image_raw', {}),
        ('/rgb/compressed', '/ir/compressed', {}),
        ('/rgb/image_raw', '/ir/image_raw', {'/rgb/image_raw/compressed': COLOUR}),
        ('/rgb/image_raw', '/ir', {'/rgb/image_rect': COLOUR, '/rgb/image_rect_color': COLOUR}),
    ],
)
def test_topics_are_found(tmp_path, rgb, thermal, others):
    path = bag_of(tmp_path, {**others, thermal: DEEP, rgb: COLOUR})
    assert BagSequence(path).topics == {'rgb': rgb, 'thermal': thermal}


def test_grey_cameras_are_told_apart_by_name(tmp_path):
    path = bag_of(tmp_path, {'/cam0/image': GREY, '/infrared/image': GREY})
    assert BagSequence(path).topics == {'rgb': '/cam0/image', 'thermal': '/infrared/image'}


@pytest.mark.parametrize(
    ('images', 'rgb', 'thermal', 'why'),
    [
        # A word in a name does not beat the pixels.
        ({'/flir_camera/image_raw': COLOUR, '/seek': DEEP}, '/flir_camera/image_raw', '/seek', ''),
        ({'/ir_cut': COLOUR, '/cam_t': DEEP}, '/ir_cut', '/cam_t', 'pixels are counts'),
        ({'/thermal': COLOUR, '/lwir': DEEP}, '/thermal', '/lwir', 'pixels are colours'),
        ({'/flir_camera': COLOUR, '/cam1': GREY}, '/flir_camera', '/cam1', 'by exclusion'),
        ({'/color': COLOUR, '/infra1': GREY}, '/color', '/infra1', 'by exclusion'),
        # Of two in colour the one of that name shows a palette.
        ({'/front/thermal': COLOUR, '/front/cam': COLOUR}, '/front/cam', '/front/thermal', 'name'),
        ({'/visible': GREY, '/cam': GREY}, '/visible', '/cam', 'by exclusion'),
        ({'/a/compressed': COLOUR, '/b/compressed': DEEP}, '/a/compressed', '/b/compressed', ''),
    ],
)
def test_pixels_tell_the_cameras_before_names_do(tmp_path, caplog, images, rgb, thermal, why):
    path = bag_of(tmp_path, images)
    sequence = BagSequence(path)
    assert sequence.topics == {'rgb': rgb, 'thermal': thermal}
    assert why in sequence.why['thermal'][1] + sequence.why['rgb'][1]
    assert ('by exclusion' in caplog.text) == ('exclusion' in why)
    assert f'thermal because: {sequence.why["thermal"][1]}' in describe(path)


def test_event_images_keep_their_colours(tmp_path):
    path = bag_of(tmp_path, {'/rgb': COLOUR, '/dvs/events_drawn': COLOUR[::-1]})
    topics = {'rgb_topic': '/rgb', 'thermal_topic': '/dvs/events_drawn'}
    (pair,) = BagSequence(path, **topics, second='events')
    np.testing.assert_array_equal(pair.thermal, COLOUR[::-1])


def test_several_candidates_are_named(tmp_path):
    images = {'/left/rgb': COLOUR, '/right/rgb': COLOUR, '/thermal': DEEP}
    path = bag_of(tmp_path, images)
    with pytest.raises(TpfError, match=r'2 topics .* --rgb-topic: /left/rgb, /right/rgb'):
        BagSequence(path)
    assert BagSequence(path, rgb_topic='/right/rgb').topics['rgb'] == '/right/rgb'


def test_a_topic_of_another_type_is_refused(write_bag):
    with pytest.raises(TpfError, match=r'/ground_truth of .* is vision_msgs/msg/Detection2DArray'):
        BagSequence(write_bag(3), rgb_topic='/ground_truth')


def test_bag_without_images(tmp_path):
    with BagWriter(tmp_path / 'a.mcap') as bag:
        bag.write_box('/boxes', None, START, frame_id='rgb')
    with pytest.raises(TpfError, match=r'has no images; its topics: /boxes \(vision_msgs'):
        BagSequence(tmp_path / 'a.mcap')


def test_cameras_that_never_meet(tmp_path):
    with BagWriter(tmp_path / 'a.mcap') as bag:
        for index in range(20):
            stamp = START + index * 100_000_000
            bag.write_image('/rgb', COLOUR, stamp, frame_id='rgb')
            bag.write_image('/thermal', DEEP, stamp + 50_000_000, frame_id='thermal')
    words = 'within 15 ms .* nearest are 50.0 ms apart.* --thermal-offset-ms -?50 '
    with pytest.raises(TpfError, match=words):
        BagSequence(tmp_path / 'a.mcap')
    assert len(BagSequence(tmp_path / 'a.mcap', thermal_offset_ns=-50_000_000)) == 20


@pytest.fixture
def clocks(tmp_path):
    """Give a function (ns) -> a bag whose thermal stamps are that much ahead; recorded at once."""

    def write(ahead, count=20):
        types = typestore().types
        path = tmp_path / 'a.mcap'
        with BagWriter(path) as bag:
            for index in range(count):
                time = START + index * 33_000_000
                for topic, image, stamp in (
                    ('/rgb', COLOUR, time), ('/thermal', DEEP, time + ahead),
                ):  # fmt: skip
                    header = types['std_msgs/msg/Header'](
                        types['builtin_interfaces/msg/Time'](*divmod(stamp, 10**9)), 'camera'
                    )
                    message = types['sensor_msgs/msg/Image'](
                        header, 8, 8, 'rgb8' if topic == '/rgb' else 'mono16', 0,
                        24 if topic == '/rgb' else 16, image.reshape(-1).view(np.uint8),
                    )  # fmt: skip
                    bag.write(topic, message, time)
        return path

    return write


@pytest.mark.parametrize('ahead', [5 * 10**9 - START, -37 * 10**9, 37 * 10**9, 10**9])
def test_clocks_that_differ_are_told_with_the_cure(clocks, ahead):
    path = clocks(ahead)
    with pytest.raises(TpfError, match='by the times of recording') as caught:
        BagSequence(path)
    offset = float(re.search(r'--thermal-offset-ms (\S+) ', str(caught.value))[1])
    assert offset == -ahead / 1e6
    assert f'{abs(ahead) / 1e9:.3f} s {"ahead of" if ahead > 0 else "behind"}' in str(caught.value)
    sequence = BagSequence(path, thermal_offset_ns=round(offset * 1e6))
    assert len(sequence) == 20 and sequence.clock_offset == 0


def test_clocks_a_second_apart_do_not_pair_in_silence(clocks, caplog):
    assert len(BagSequence(clocks(33_000_000 * 8, count=40))) >= 10
    assert 'thermal stamps are 0.264 s ahead of rgb stamps' in caplog.text


def write_image(bag, topic, stamp, **changes):
    """One Image message with some fields changed."""
    types = typestore().types
    fields = {
        'encoding': 'rgb8',
        'height': 8,
        'width': 8,
        'step': 24,
        'is_bigendian': 0,
        'data': COLOUR.ravel(),
    }
    header = types['std_msgs/msg/Header'](
        types['builtin_interfaces/msg/Time'](*divmod(stamp, 10**9)), 'camera'
    )
    bag.write(topic, types['sensor_msgs/msg/Image'](header, **{**fields, **changes}), START)


def test_bad_image_is_named(tmp_path):
    with BagWriter(tmp_path / 'a.mcap') as bag:
        write_image(bag, '/rgb', START)
        write_image(bag, '/rgb', START + 1, encoding='nv24')
    sequence = iter(BagSequence(tmp_path / 'a.mcap'))
    next(sequence)
    with pytest.raises(TpfError, match=rf"a\.mcap, /rgb at {START} ns: .*'nv24'"):
        next(sequence)


def test_images_of_different_size(tmp_path):
    path = bag_of(tmp_path, {'/rgb': COLOUR, '/thermal': DEEP[:4]})
    with pytest.raises(TpfError, match='thermal image is 8x4 but rgb is 8x8'):
        list(BagSequence(path))


def test_zero_stamps_fall_back_to_the_time_of_recording(tmp_path):
    with BagWriter(tmp_path / 'a.mcap') as bag:
        write_image(bag, '/rgb', 0)
    assert [pair.stamp for pair in BagSequence(tmp_path / 'a.mcap')] == [START]


def test_backward_jump_ends_the_sequence(tmp_path, caplog):
    with BagWriter(tmp_path / 'a.mcap') as bag:
        for _ in range(2):
            for index in range(10):
                write_image(bag, '/rgb', START + index * 33_000_000)
    assert len(BagSequence(tmp_path / 'a.mcap')) == len(list(BagSequence(tmp_path / 'a.mcap')))
    assert len(BagSequence(tmp_path / 'a.mcap')) == 10
    assert 'time jumps back' in caplog.text


def test_ros1_bag(shared_data):
    sequence = BagSequence(shared_data / 'bags/duckie_test.bag')
    (pair,) = sequence
    assert (pair.modality, pair.size) == ('rgb', (123, 124))
    assert not pair.rgb.any(), 'it is a black image'


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_foreign_bags_without_images(shared_data, kind):
    for path in (shared_data / 'bags/rosbag2_py/test/resources' / kind).rglob('*'):
        if path.suffix in ('.mcap', '.db3'):
            with pytest.raises(TpfError, match=r'has no images; its topics: .*msg'):
                BagSequence(path)
            assert Bag(path).topics
