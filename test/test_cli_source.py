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


def test_images_in_folders_go_by_their_names_and_a_sequences_are_registered(
    tmp_path, write_sequence
):
    folder = write_sequence(tmp_path, 'lasher', 'car')
    cameras = {'rgb': folder / 'visible', 'thermal': folder / 'infrared'}
    for source, more in ((folder, {}), (None, cameras)):
        with pytest.raises(TpfError, match='go by the numbers in their names; leave out --slop'):
            open_source(source, **more, slop_ms=5.0, thermal_offset_ms=None)
    turned = '1,0,0,0,1,0,0,0,1'
    with pytest.raises(TpfError, match='count as registered; for --homography give the folders'):
        open_source(folder, homography=turned)
    assert len(open_source(None, **cameras, homography=turned, slop_ms=None)) == 12
