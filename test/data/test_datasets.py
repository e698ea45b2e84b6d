"""Each benchmark's layout, with real images in it, becomes a sequence; what is wrong is named."""

import cv2
import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.datasets import (
    by_row,
    find_sequences,
    LAYOUTS,
    open_sequence,
    read_attributes,
    read_names,
    read_rows,
    read_truths,
)


@pytest.mark.parametrize('dataset', LAYOUTS)
def test_every_layout(tmp_path, write_sequence, frames, dataset):
    pairs, truth = frames
    write_sequence(tmp_path, dataset, 'car')
    (name, folder), *_ = find_sequences(tmp_path, dataset).items()
    sequence = open_sequence(folder, dataset)
    read = list(sequence)
    assert name == sequence.name == 'car'
    assert len(read) == len(sequence) == 12
    assert read[0].modality == ('thermal' if dataset == 'antiuav' else 'rgb+thermal')
    for pair, original in zip(read, pairs):
        if dataset == 'visevent':
            drawn = pair.thermal
            assert np.array_equal(drawn, np.dstack([original.thermal // n for n in (4, 2, 1)]))
            continue
        if dataset == 'depthtrack':
            assert np.array_equal(pair.thermal, np.uint16(20) * original.thermal)  # mm
            continue
        assert np.abs(pair.thermal.astype(int) - original.thermal).mean() < 8  # lossy, in order
    annotated = {'vtuav': [0, 10], 'antiuav': list(range(11))}.get(dataset, list(range(12)))
    assert np.array_equal(sequence.ground_truth[annotated], truth[annotated])
    assert np.isfinite(sequence.ground_truth).all(1).sum() == len(annotated)


@pytest.mark.parametrize('dataset', LAYOUTS)
def test_ground_truth_for_scoring(tmp_path, write_sequence, frames, dataset):
    _, truth = frames
    write_sequence(tmp_path / 'part', dataset, 'car')
    truths = read_truths(tmp_path, dataset)['car']
    assert len(truths) == len(LAYOUTS[dataset].truths)
    wanted = truth[:: LAYOUTS[dataset].every].copy()
    if dataset == 'antiuav':
        wanted[-1] = 0
    assert np.array_equal(truths[0], wanted)


def test_a_folder_is_opened_without_naming_the_dataset(tmp_path, write_sequence):
    for dataset in ('lasher', 'gtot', 'vtuav', 'antiuav'):
        assert len(open_sequence(write_sequence(tmp_path, dataset, dataset))) == 12
    with pytest.raises(TpfError, match='has the layout of no benchmark sequence'):
        open_sequence(tmp_path)


def test_sequences_are_found_in_parts_and_chosen_by_a_list(tmp_path, write_sequence):
    for part, name in (('test_ST_001', 'car_1'), ('test_ST_002', 'bus_2')):
        write_sequence(tmp_path / part, 'vtuav', name)
    assert set(find_sequences(tmp_path, 'vtuav')) == {'car_1', 'bus_2'}
    names = tmp_path / 'list.txt'
    names.write_bytes(b'bus_2\r\n\r\ncar_1')
    assert list(find_sequences(tmp_path, 'vtuav', read_names(names))) == ['bus_2', 'car_1']
    with pytest.raises(TpfError, match='lacks 1 listed sequences: bike_3'):
        find_sequences(tmp_path, 'vtuav', ['bike_3', 'car_1'])


def test_two_sequences_of_one_name_are_refused_with_their_folders(tmp_path, write_sequence):
    for part in ('RGBT210', 'RGBT234'):
        for name in ('walk', 'ride'):
            write_sequence(tmp_path / part, 'rgbt210', name)
    for read in find_sequences, read_truths:
        with pytest.raises(TpfError, match=r'walk \(.*RGBT210/walk and .*RGBT234/walk\)') as error:
            read(tmp_path, 'rgbt210')
        assert 'RGBT234/ride' in str(error.value)
    assert len(find_sequences(tmp_path / 'RGBT210', 'rgbt210')) == 2


def test_what_macos_leaves_is_no_sequence(tmp_path, write_sequence):
    write_sequence(tmp_path, 'lasher', 'Walk')
    write_sequence(tmp_path / '__MACOSX', 'lasher', 'Walk')
    write_sequence(tmp_path / '.hidden', 'lasher', 'Walk')
    assert find_sequences(tmp_path, 'lasher') == {'Walk': tmp_path / 'Walk'}


def test_missing_ground_truth_is_named(tmp_path, write_sequence):
    for name in ('walk', 'ride'):
        write_sequence(tmp_path, 'lasher', name)
    (tmp_path / 'walk/init.txt').unlink()
    with pytest.raises(TpfError, match=r'walk/init\.txt.*--sequences'):
        read_truths(tmp_path, 'lasher')
    assert list(read_truths(tmp_path, 'lasher', ['ride'])) == ['ride']


def test_ground_truths_of_different_length_are_refused(tmp_path, write_sequence):
    folder = write_sequence(tmp_path, 'rgbt234', 'walk')
    rows = (folder / 'visible.txt').read_text().splitlines()
    (folder / 'visible.txt').write_text('\n'.join(rows[:-1]))
    with pytest.raises(TpfError, match=r'visible\.txt 11 but infrared\.txt 12'):
        read_truths(tmp_path, 'rgbt234')


@pytest.mark.parametrize('lost', [['visible'], ['visible', 'infrared']])
def test_rows_of_ground_truth_stay_with_their_frame(tmp_path, write_sequence, frames, lost):
    _, truth = frames
    folder = write_sequence(tmp_path, 'lasher', 'walk')
    for camera in lost:
        (folder / camera / f'{camera[0]}005.jpg').unlink()
    sequence = open_sequence(folder)
    left = list(range(12)) if len(lost) == 1 else [0, 1, 2, 3, *range(5, 12)]
    assert np.array_equal(sequence.ground_truth, truth[left])
    assert sequence.rows.tolist() == left
    assert sequence.both.tolist() == [n != 4 for n in left]


@pytest.fixture
def vtuav(tmp_path, write_sequence):
    """Give a function (numbers, start) -> folder of a sequence with those frames, row k at 10k."""

    def make(numbers, start=None):
        folder = write_sequence(tmp_path, 'vtuav', 'bus_1')
        image = cv2.imread(str(folder / 'rgb/000001.jpg'))
        for camera in 'rgb', 'ir':
            for file in (folder / camera).iterdir():
                file.unlink()
            for number in numbers:
                cv2.imwrite(str(folder / camera / f'{number:06}.jpg'), image)
        for file in 'rgb.txt', 'ir.txt':
            (folder / file).write_text('\n'.join(f'{row} 1 9 9' for row in range(3)))
        if start is not None:
            np.save(tmp_path / 'init_frame.npy', {'bus_1': start, 'other': 3}, allow_pickle=True)
        return folder

    return make


@pytest.mark.parametrize(
    ('numbers', 'start', 'at'),
    [
        (range(25), None, {0: 0, 10: 1, 20: 2}),
        (range(4, 30), None, {4: 0, 14: 1, 24: 2}),
        (range(30), 7, {7: 0, 17: 1, 27: 2}),
        ([*range(6), *range(12, 25)], None, {0: 0, 20: 2}),
        ([*range(8), *range(12, 25)], 2, {2: 0, 12: 1, 22: 2}),
    ],
)
def test_row_k_of_vtuav_belongs_to_the_frame_numbered_start_plus_10_k(vtuav, numbers, start, at):
    sequence = open_sequence(vtuav(numbers, start), 'vtuav')
    shown = np.flatnonzero(np.isfinite(sequence.ground_truth[:, 0]))
    assert {sequence.numbers[i]: int(sequence.ground_truth[i, 0]) for i in shown} == at
    assert sequence.numbers[0] == sequence.numbers[0] - sequence.rows[0]
    assert np.array_equal(sequence.numbers - np.array(sequence.numbers[0]), sequence.rows)


def test_a_gap_in_vtuav_is_named_and_keeps_results_in_place(vtuav, caplog):
    root = vtuav([*range(6), *range(12, 25)]).parent
    rows = read_rows(root, 'vtuav')['bus_1']
    assert 'ground truth have no image, those of frames 10' in caplog.text
    table = by_row(np.arange(19.0)[:, None] + np.zeros(4), rows)
    assert len(table) == 25 and np.isnan(table[6:12]).all()
    assert table[[5, 12, 20], 0].tolist() == [5, 6, 14]


def test_first_frames_are_read_without_running_anything(vtuav, tmp_path):
    folder = vtuav(range(25), 3)

    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath('ran').touch, ())

    np.save(tmp_path / 'init_frame.npy', np.array(Evil(), object), allow_pickle=True)
    with pytest.raises(TpfError, match=r'init_frame\.npy is no dictionary'):
        open_sequence(folder, 'vtuav')
    assert not (tmp_path / 'ran').exists()


def test_a_list_that_names_nothing_is_an_error(tmp_path):
    names = tmp_path / 'list.txt'
    names.write_text('\ufeff\r\n \r\n')
    with pytest.raises(TpfError, match=r'list\.txt names none'):
        read_names(names)
    for encoding in 'utf-8', 'utf-8-sig', 'utf-16':
        names.write_bytes('walk\r\nride\r\n'.encode(encoding))
        assert read_names(names) == ['walk', 'ride']


def test_a_corrupt_image_is_named(tmp_path, write_sequence):
    folder = write_sequence(tmp_path, 'lasher', 'car')
    (folder / 'infrared' / 'i005.jpg').write_bytes(b'\xff\xd8 no image')
    pairs = iter(open_sequence(folder))
    for _ in range(4):
        next(pairs)
    with pytest.raises(TpfError, match=r'i005\.jpg'):
        next(pairs)


def test_images_without_ground_truth(tmp_path, write_sequence):
    folder = write_sequence(tmp_path, 'lasher', 'car')
    for file in folder.glob('*.txt'):
        file.unlink()
    assert open_sequence(folder).ground_truth is None


def test_nothing_there(tmp_path):
    with pytest.raises(TpfError, match="unknown dataset 'otb'; choose one of lasher"):
        find_sequences(tmp_path, 'otb')
    with pytest.raises(TpfError, match="no folder holds 'infrared'"):
        find_sequences(tmp_path, 'lasher')
    with pytest.raises(TpfError, match='holds no gtot ground truth'):
        read_truths(tmp_path, 'gtot')
    with pytest.raises(TpfError, match='is not a folder'):
        read_truths(tmp_path / 'none', 'lasher')


def test_published_ground_truth(shared_data):
    metrics = shared_data / 'metrics'
    names = read_names(metrics / 'lashertest.txt')
    assert len(names) == 245
    assert 'girl`sblkbag' in names
    assert list(read_truths(metrics / 'lasher_gt', 'lasher', names)) == names


def test_attributes(tmp_path):
    names = ['car', 'man`s', 'dog']
    gt = tmp_path / 'gt'
    gt.mkdir()
    assert read_attributes(gt, names) == {}
    (tmp_path / 'attr_txt').mkdir()
    (tmp_path / 'attr_txt/SequencesName.txt').write_text('dog\r\ncar\r\nman`s')
    (tmp_path / 'attr_txt/FM.txt').write_text('1\n0\n1\n')
    assert read_attributes(gt, names) == {'FM': ['man`s', 'dog']}
    (tmp_path / 'AttriSeqsTxt').mkdir()
    for name, flags in zip(names, ('1,0', '0,0', '1,1')):
        (tmp_path / f'AttriSeqsTxt/{name}.txt').write_text(flags + ',0' * 17)
    attributes = read_attributes(gt, names)
    assert attributes['NO'] == ['car', 'dog']
    assert attributes['PO'] == ['dog']
    assert len(attributes) == 19
