"""What a run trains, and on which losses."""
