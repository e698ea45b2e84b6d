"""Candidate elimination in the course of a training: all tokens at first, then fewer."""

import math


def keep_rate(done: float, start: float, end: float, least: float) -> float:
    """
    Share of the search tokens that a block keeps: 1 until start, by a cosine to least at end.

    done, start and end are shares of the run.
    """
    if not start < done < end:
        return 1.0 if done <= start else least
    return least + (1 - least) * (1 + math.cos(math.pi * (done - start) / (end - start))) / 2
