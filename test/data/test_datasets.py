"""Each benchmark's layout, with real images in it, becomes a sequence; what is wrong is named."""

import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.datasets import (
    find_sequences,
    LAYOUTS,
    open_sequence,
    read_attributes,
    read_names,
    read_truths,
)


@pytest.mark.parametrize('dataset', LAYOUTS)
def test_every_layout(tmp_path, write_sequence, real_frames, dataset):
    pairs, truth = real_frames
    write_sequence(tmp_path, dataset, 'car')
    (name, folder), *_ = find_sequences(tmp_path, dataset).items()
    sequence = open_sequence(folder, dataset)
    read = list(sequence)
    assert name == sequence.name == 'car'
    assert len(read) == len(sequence) == 12
    assert read[0].modality == ('thermal' if dataset == 'antiuav' else 'rgb+thermal')
    for pair, original in zip(read, pairs):
        assert np.abs(pair.thermal.astype(int) - original.thermal).mean() < 8  # lossy, in order
    annotated = {'vtuav': [0, 10], 'antiuav': list(range(11))}.get(dataset, list(range(12)))
    assert np.array_equal(sequence.ground_truth[annotated], truth[annotated])
    assert np.isfinite(sequence.ground_truth).all(1).sum() == len(annotated)


@pytest.mark.parametrize('dataset', LAYOUTS)
def test_ground_truth_for_scoring(tmp_path, write_sequence, real_frames, dataset):
    _, truth = real_frames
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
