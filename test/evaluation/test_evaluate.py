"""From folders of published files to ranked trackers; missing and short results are refused."""

import numpy as np
import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.evaluation.evaluate import evaluate_file, evaluate_folders, summary_table

TRUTH = np.tile([100.0, 100, 40, 20], (12, 1))


@pytest.fixture
def published(tmp_path):
    """Ground truth of three sequences, results of two trackers with their own file names."""
    gt, results = tmp_path / 'gt', tmp_path / 'results'
    for name in ('car', 'girl`s', 'redcar'):
        (gt / name).mkdir(parents=True)
        for file in ('visible.txt', 'infrared.txt'):
            np.savetxt(gt / name / file, TRUTH, fmt='%g', delimiter=',')
        for tracker, shift in (('Good', 2), ('Bad', 30)):
            (results / tracker).mkdir(parents=True, exist_ok=True)
            boxes = TRUTH + np.array([shift, 0, 0, 0])
            path = results / tracker / f'{tracker}_{name}.txt'
            np.savetxt(path, boxes, fmt='%.3f', delimiter='\t')
            (results / tracker / f'{tracker}_{name}_time.txt').write_text('0.1\n' * 12)
    return results, gt


def test_trackers_side_by_side_the_best_first(published):
    results, gt = published
    evaluation = evaluate_folders([results], 'rgbt234', gt)
    assert [score.tracker for score in evaluation.scores] == ['Good', 'Bad']
    assert evaluation.scores[0].summary()['MPR'] == 100
    assert evaluation.scores[1].summary()['MPR'] == 0
    assert summary_table(evaluation.scores).splitlines()[1].split() == [
        *('Good', '100.00', '90.48', '3')
    ]


def test_one_tracker_by_its_folder_or_its_name(published):
    results, gt = published
    for places, tracker, name in (
        ([results], 'Bad', 'Bad'),
        ([results / 'Good'], None, 'Good'),
        ([results / 'Good'], 'Mine', 'Mine'),
    ):
        evaluation = evaluate_folders(places, 'rgbt234', gt, tracker=tracker)
        assert [score.tracker for score in evaluation.scores] == [name]
    both = evaluate_folders([results / 'Bad', results / 'Good'], 'rgbt234', gt)
    assert len(both.scores) == 2


def test_missing_and_short_results_are_named_and_refused(published):
    results, gt = published
    (results / 'Good' / 'Good_car.txt').unlink()
    np.savetxt(results / 'Good' / 'Good_girl`s.txt', TRUTH[:7], fmt='%g', delimiter=',')
    wanted = r'Good: 1 of 3 results are missing: car, .* short: girl`s \(7 of 12 boxes\); .*--par'
    with pytest.raises(TpfError, match=wanted):
        evaluate_folders([results], 'rgbt234', gt)
    evaluation = evaluate_folders([results], 'rgbt234', gt, partial=True)
    by_name = {score.tracker: score for score in evaluation.scores}
    assert by_name['Good'].sequences == ['girl`s', 'redcar']
    assert by_name['Good'].frames.tolist() == [7, 12]
    assert len(evaluation.gaps) == 1


def test_a_list_chooses_the_sequences(published, tmp_path):
    results, gt = published
    names = tmp_path / 'names.txt'
    names.write_bytes(b'redcar\r\ncar')
    evaluation = evaluate_folders([results], 'rgbt234', gt, sequences=names)
    assert evaluation.scores[0].sequences == ['redcar', 'car']


def test_what_cannot_be_found_is_named(published, tmp_path):
    results, gt = published
    with pytest.raises(TpfError, match='no result files of Best for the sequences car'):
        evaluate_folders([results], 'rgbt234', gt, tracker='Best')
    with pytest.raises(TpfError, match='is not a folder of result files'):
        evaluate_folders([tmp_path / 'none'], 'rgbt234', gt)
    with pytest.raises(TpfError, match='another tracker named Good'):
        evaluate_folders([results, results / 'Good'], 'rgbt234', gt)
    with pytest.raises(TpfError, match='give --dataset'):
        evaluate_folders([results], None, gt)
    with pytest.raises(TpfError, match="unknown dataset 'otb'"):
        evaluate_folders([results], 'otb', gt)


def test_one_file(published, tmp_path):
    results, gt = published
    path = results / 'Good' / 'Good_car.txt'
    truth = gt / 'car' / 'visible.txt'
    assert evaluate_file(path, None, truth).scores[0].summary()['PR'] == 100
    assert evaluate_file(path, 'rgbt234', truth).scores[0].summary()['MPR'] == 100
    np.savetxt(path, TRUTH[:7], fmt='%g')
    with pytest.raises(TpfError, match='7 of 12 boxes'):
        evaluate_file(path, None, truth)
    with pytest.raises(TpfError, match='visevent is not scored here, only lasher'):
        evaluate_file(path, 'visevent', truth)
    with pytest.raises(TpfError, match='depthtrack is not scored here'):
        evaluate_folders([results], 'depthtrack', gt)
