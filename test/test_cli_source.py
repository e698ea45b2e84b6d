"""What a user names becomes a sequence; what does not go together is said."""

import pytest
from tpf_tracker_ros.cli.source import open_source
from tpf_tracker_ros.core.errors import TpfError


def test_a_sequence_folder_must_have_the_camera_that_the_model_takes(tmp_path, write_sequence):
    thermal, events = (write_sequence(tmp_path, d, d) for d in ('lasher', 'visevent'))
    with pytest.raises(TpfError, match='RGB with thermal, but the model takes depth; take ano'):
        open_source(thermal, second='depth')
    for second in 'events', 'thermal':
        assert len(open_source(events, second=second)) == 12


def test_a_sequence_folder_is_registered_and_paired(tmp_path, write_sequence):
    folder = write_sequence(tmp_path, 'lasher', 'car')
    for option in ({'homography': '1,0,0,0,1,0,0,0,1'}, {'slop_ms': 5.0}):
        with pytest.raises(
            TpfError, match='registered and paired by their names; leave out --hom'
        ):
            open_source(folder, **option)
    assert len(open_source(folder, slop_ms=None)) == 12
