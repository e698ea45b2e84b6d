from tpf_tracker_ros.bench import against_plain


def test_costs_are_multiples_of_plain(monkeypatch):
    monkeypatch.setattr(against_plain, 'REPEATS', 1)
    rows = against_plain.cost_ratios(['tpf_tiny'])
    assert rows['plain']['ratio'] == 1
    assert all(0 < rows['tpf_tiny'][kind] < 0.3 for kind in ('ratio', 'frozen_ratio'))
    rows['tpf_tiny'] |= against_plain.start_cost('tpf_tiny')
    assert rows['tpf_tiny']['resident_mb'] > 100
    text = against_plain.table(rows, {'crop x 4': 4.5})
    assert [line.split()[0] for line in text.splitlines()] == [
        'search',
        'plain',
        'tpf_tiny',
        'crop',
    ]
