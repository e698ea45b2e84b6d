from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from tpf_tracker_ros.core.template_memory import TemplateMemory

BOX, SIZE = np.array([100.0, 100, 40, 20]), (640, 512)


@pytest.fixture
def memory() -> TemplateMemory:
    memory = TemplateMemory(score=0.65, interval=5, size_jump=1.5)
    memory.reset(BOX)
    return memory


def offers(memory: TemplateMemory, scores: list[float], box: np.ndarray = BOX) -> list:
    return [memory.offer(score, box, SIZE, lambda i=i: i) for i, score in enumerate(scores)]


def test_the_most_reliable_frame_of_each_interval_wins(memory):
    assert offers(memory, [0.7, 0.9, 0.8, 0.7, 0.7]) == [None] * 4 + [1]
    assert memory.updates == 1


def test_of_equal_frames_the_nearest_in_time_wins(memory):
    assert offers(memory, [0.8] * 5)[-1] == 4


def test_unreliable_frames_never_become_templates(memory):
    assert offers(memory, [0.64] * 20) == [None] * 20
    assert offers(memory, [0.9] * 20, np.array([-5.0, 100, 40, 20])) == [None] * 20  # cut off
    assert offers(memory, [0.9] * 20, np.array([100.0, 100, 70, 35])) == [None] * 20  # jumped


def test_a_late_reliable_frame_ends_a_long_wait_at_once(memory):
    assert offers(memory, [0.1] * 9 + [0.9])[-1] == 9


def test_skip_drops_the_candidate_and_starts_the_interval_anew(memory):
    offers(memory, [0.9] * 4)
    memory.skip()
    assert offers(memory, [0.1] * 10) == [None] * 10


def test_a_slow_growth_is_followed(memory):
    box, taken = BOX.copy(), []
    for i in range(40):
        box[2:] *= 1.05
        taken.append(memory.offer(0.9, box, SIZE, lambda i=i: i))
    assert any(frame is not None for frame in taken[20:30])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80), st.integers(1, 9))
def test_updates_keep_the_interval_and_the_threshold(scores, interval):
    memory = TemplateMemory(score=0.65, interval=interval, size_jump=1.5)
    memory.reset(BOX)
    taken = offers(memory, scores)
    frames = [i for i, template in enumerate(taken) if template is not None]
    assert all(b - a >= interval for a, b in zip(frames, frames[1:]))
    assert all(scores[taken[i]] >= 0.65 and taken[i] <= i for i in frames)
