"""Step times, agreement of engines, multiply-adds."""
