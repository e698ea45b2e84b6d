"""`tpf track`, `tpf models` and `tpf bag` as a user runs them, on good and on bad input."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file
import torch
from tpf_tracker_ros import cli
from tpf_tracker_ros.bags.reader import BagSequence
from tpf_tracker_ros.bags.typestore import typestore
from tpf_tracker_ros.bags.writer import BagWriter
from tpf_tracker_ros.models import create_model, list_models

START = 1_700_000_000_000_000_000
TEXTURE = np.random.default_rng(0).integers(0, 255, (96, 128), dtype=np.uint8)
TEXTURE = cv2.GaussianBlur(TEXTURE, (0, 0), 2)


@pytest.fixture
def tpf(monkeypatch, capsys, tmp_path):
    """Give a function (words) -> exit code, stdout, stderr of that command, run in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr('sys.argv', ['tpf', *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Return a folder with good and bad input; weights are random."""
    folder = tmp_path_factory.mktemp('files')
    torch.manual_seed(0)
    save_file(create_model('tpf_nano').state_dict(), folder / 'random.safetensors')
    rgb, deep = np.dstack([TEXTURE] * 3), 7000 + TEXTURE.astype(np.uint16)
    images = {
        'both': (rgb, deep),
        'rgb_only': (rgb, None),
        'sizes': (rgb, deep[:64, :64]),
    }
    for name, (visible, thermal) in images.items():
        with BagWriter(folder / f'{name}.mcap') as bag:
            for index in range(6):
                stamp = START + index * 33_333_333
                bag.write_image('/rgb', visible, stamp, frame_id='rgb')
                if thermal is not None:
                    bag.write_image('/thermal', thermal, stamp, frame_id='thermal')
    with BagWriter(folder / 'unknown.mcap') as bag:
        types = typestore().types
        header = types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](5, 0), 'rgb')
        pixels = TEXTURE.ravel()
        image = types['sensor_msgs/msg/Image'](header, 96, 128, 'nv24', 0, 128, pixels)
        bag.write('/rgb', image, START)
    data = (folder / 'both.mcap').read_bytes()
    (folder / 'cut.mcap').write_bytes(data[: len(data) * 2 // 3])
    (folder / 'broken.mcap').write_bytes(b'\0' * 5000)
    weights = (folder / 'random.safetensors').read_bytes()
    (folder / 'cut.safetensors').write_bytes(weights[:5000])
    (folder / 'images').mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f'images/{index}.png'), TEXTURE)
    return folder


def track(tpf, files, *words, init='40,30,20,16', out='out'):
    checkpoint = files / 'random.safetensors'
    words = [str(word) if word != 'default' else checkpoint for word in words]
    if '--checkpoint' not in words:
        words += ['--checkpoint', checkpoint]
    return tpf('track', *words, *(['--init', init] if init else []), '--out', out)


def test_bag_to_boxes(tpf, files, tmp_path):
    code, out, err = track(tpf, files, files / 'both.mcap', '--video', 'out/boxes.mp4')
    assert (code, err) == (0, '')
    assert '6 frames' in out and len(out.splitlines()) == 1
    assert len((tmp_path / 'out/boxes.txt').read_text().splitlines()) == 6
    assert json.loads((tmp_path / 'out/track.json').read_text())['complete']


def test_one_camera_bag_is_tracked_with_a_note(tpf, files, caplog):
    code, out, _ = track(tpf, files, files / 'rgb_only.mcap')
    assert code == 0 and '6 frames' in out
    assert caplog.messages == [
        f'{files / "rgb_only.mcap"} has no thermal images: tracking with one camera'
    ]


def test_cut_bag_is_tracked_up_to_the_cut(tpf, files, caplog):
    code, out, _ = track(tpf, files, files / 'cut.mcap')
    assert code == 0 and out.startswith('4 frames')
    assert len(caplog.messages) == 1 and 'is cut' in caplog.text


@pytest.mark.parametrize('camera', ['rgb', 'thermal'])
def test_folder_of_images(tpf, files, camera):
    code, out, err = track(tpf, files, f'--{camera}', files / 'images')
    assert (code, err) == (0, '') and '3 frames' in out


def test_other_size_with_a_homography(tpf, files):
    scale = '2,0,0,0,1.5,0,0,0,1'
    code, out, err = track(tpf, files, files / 'sizes.mcap', '--homography', scale)
    assert (code, err) == (0, '') and '6 frames' in out


BAD = {
    'missing bag': (['absent.mcap'], 'absent.mcap does not exist'),
    'broken bag': (['{}/broken.mcap'], 'broken.mcap cannot be read as a bag: File magic'),
    'unknown topic': (
        ['{}/both.mcap', '--rgb-topic', '/nose'],
        'has no topic /nose; its image topics: /rgb, /thermal',
    ),
    'topic for no bag': (['{}/images', '--rgb-topic', '/rgb'], 'images is no bag'),
    'both topics, one camera': (
        ['{}/rgb_only.mcap', '--rgb-topic', '/rgb', '--thermal-topic', '/thermal'],
        'has no topic /thermal; its image topics: /rgb',
    ),
    'both cameras left out': (
        ['{}/both.mcap', '--rgb-topic', '', '--thermal-topic', ''],
        'choose from its image topics',
    ),
    'unsupported encoding': (['{}/unknown.mcap'], "/rgb at .* encoding 'nv24'"),
    'sizes without registration': (['{}/sizes.mcap'], 'thermal image is 64x64 but rgb is 128x96'),
    'bad homography': (['{}/sizes.mcap', '--homography', '1,0,0'], 'has 3 values; it must be 9'),
    'no numbers': (['{}/sizes.mcap', '--homography', 'eye'], "'eye' is not nine numbers"),
    'corrupt checkpoint': (['{}/both.mcap', '--checkpoint', '{}/cut.safetensors'], 'cut.safeten'),
    'missing checkpoint': (['{}/both.mcap', '--checkpoint', 'no.safetensors'], 'no.safetensors'),
    'unknown model': (['{}/both.mcap', '--model', 'yolo'], "unknown model 'yolo'; choose one of"),
    'unknown device': (['{}/both.mcap', '--device', 'abacus'], 'abacus'),
    'source of no kind': (['{}/random.safetensors'], 'neither a bag nor a sequence folder'),
    'nothing given': ([], 'neither rgb nor thermal'),
    'source twice': (['{}/both.mcap', '--rgb', '{}/images'], 'not both'),
    'folder without images': (['--rgb', '{}'], 'holds no images'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_input_is_one_clear_line(tpf, files, case):
    words, message = BAD[case]
    code, out, err = track(tpf, files, *(word.format(files) for word in words))
    (error,) = err.splitlines()
    assert code == 1 and out == ''
    assert re.match(f'error: .*{message}', error), error


@pytest.mark.parametrize(
    ('init', 'message'),
    [
        ('40,30,0,16', 'box 40,30,0,16 is empty'),
        ('400,30,20,16', 'box 400,30,20,16 has its centre outside the 128x96 image'),
        ('40,30,20', "'40,30,20' is not four numbers"),
        ('nan,30,20,16', 'is not four numbers'),
        (None, 'both has no ground truth to start on; give --init'),
    ],
)
def test_bad_init(tpf, files, init, message):
    code, _, err = track(tpf, files, files / 'both.mcap', init=init)
    assert code == 1 and err.startswith('error: ') and message in err
    assert len(err.splitlines()) == 1


def test_no_right_to_write(tpf, files, tmp_path):
    (tmp_path / 'file').write_text('')
    code, _, err = track(tpf, files, files / 'both.mcap', out='file/out')
    assert code == 1 and err.startswith('error: cannot write file')
    assert len(err.splitlines()) == 1


def test_full_disk(tpf, files, tmp_path, file_size_limit):
    with file_size_limit(90):
        code, _, err = track(tpf, files, files / 'both.mcap')
    assert code == 1 and err.startswith('error: cannot write out/')
    assert len(err.splitlines()) == 1
    lines = (tmp_path / 'out/boxes.txt').read_text().splitlines()
    assert lines and all(len(line.split(',')) == 4 for line in lines)


def test_models(tpf):
    code, out, err = tpf('models')
    assert (code, err) == (0, '')
    for name in list_models():
        assert name in out


def test_bag_to_folder_and_back(tpf, files, tmp_path):
    source = tmp_path / 'source.mcap'
    with BagWriter(source) as bag:
        for index in range(4):
            stamp = START + index * 40_000_000
            rgb = np.dstack([TEXTURE, TEXTURE // 2, TEXTURE // 3])
            bag.write_image('/rgb', rgb, stamp, frame_id='rgb')
            bag.write_image('/thermal', TEXTURE * np.uint16(200), stamp, frame_id='thermal')
            box = None if index == 2 else np.array([index + 0.25, 3, 20, 10])
            bag.write_box('/ground_truth', box, stamp, frame_id='rgb')
    assert tpf('bag', 'export', source, 'folder')[0] == 0
    assert tpf('bag', 'from-sequence', 'folder', 'back.mcap', '--compression', 'png')[0] == 0
    before, after = BagSequence(source), BagSequence(tmp_path / 'back.mcap')
    assert len(before) == len(after) == 4
    for first, second in zip(before, after):
        np.testing.assert_array_equal(first.rgb, second.rgb)
        np.testing.assert_array_equal(first.thermal, second.thermal)
    np.testing.assert_array_equal(before.ground_truth, after.ground_truth)
    assert 'rgb/camera_info' in tpf('bag', 'info', 'back.mcap')[1]

    code, _, err = tpf('bag', 'from-sequence', 'folder', 'back.mcap')
    assert (code, err.splitlines()) == (
        1,
        ['error: back.mcap exists already; give another name or remove it first'],
    )
    assert tpf('bag', 'from-sequence', 'folder', 'back.mcap', '--force')[0] == 0
    code, _, err = tpf('bag', 'export', source, 'folder')
    assert code == 1 and 'folder is not empty' in err


def test_full_disk_leaves_a_readable_bag(tpf, files, tmp_path, file_size_limit):
    with file_size_limit(150_000):
        code, _, err = tpf('bag', 'from-sequence', files / 'both.mcap', 'full.mcap')
    assert code == 1 and 'full.mcap: File too large; what it holds so far stays readable' in err
    assert len(err.splitlines()) == 1


def test_info_of_what_is_no_bag(tpf, files):
    shutil.copy(files / 'broken.mcap', 'broken.mcap')
    code, out, err = tpf('bag', 'info', 'broken.mcap')
    assert (code, out) == (1, '') and len(err.splitlines()) == 1
