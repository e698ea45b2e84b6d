"""Models: what there is, how fast, exported, imported."""

from pathlib import Path

import click
from tpf_tracker_ros.cli.words import (
    checkpoint_option,
    device_option,
    examples,
    model_option,
    tracker_settings,
)


@click.command(epilog=examples('tpf models'))
def models() -> None:
    """List what can be loaded: parameters, and where the weights come from."""
    import torch
    from tpf_tracker_ros.models import list_models

    width = max(map(len, list_models()))
    for name, entry in list_models().items():
        with torch.device('meta'):
            size = sum(parameter.numel() for parameter in entry.build().parameters())
        how = 'tpf import-weights' if entry.published else 'tpf train'
        weights = entry.weights or f'not packaged: {how}, then --checkpoint'
        click.echo(f'{name:{width}} {size / 1e6:5.1f} M parameters; {entry.line}')
        click.echo(f'{"":{width}} weights: {weights}')


@click.command(
    epilog=examples(
        'tpf bench', 'tpf bench --model tpf_base --json base.json', 'tpf bench --against-plain'
    )
)
@model_option
@click.option(
    '--checkpoint', type=click.Path(path_type=Path), help='Weights. [packaged or random]'
)
@device_option
@click.option('--frames', type=click.IntRange(20), default=150, show_default=True)
@click.option('--json', 'json_file', type=click.Path(path_type=Path), help='Write all numbers.')
@click.option(
    '--against-plain', is_flag=True, help='All models beside plain OSTrack, on one CPU thread.'
)
@tracker_settings
def bench(
    model: str,
    checkpoint: Path | None,
    device: str,
    frames: int,
    json_file: Path | None,
    against_plain: bool,
    settings: dict,
) -> None:
    """Measure a step, image pair to box, of each engine beside the plain eager one."""
    import json

    from tpf_tracker_ros.core.files import write_file

    if against_plain:
        result, text = _against_plain()
    else:
        result, text = _bench(model, checkpoint, device, frames, settings)
    click.echo(text)
    if json_file:
        write_file(json_file, json.dumps(result, indent=1).encode() + b'\n')


def _against_plain() -> tuple[dict, str]:
    import torch
    from tpf_tracker_ros.bench import against_plain
    from tpf_tracker_ros.models import list_models

    torch.set_num_threads(1)
    rows = against_plain.cost_ratios(list(list_models()))
    for name in list_models():
        rows[name].update(against_plain.start_cost(name))
    growth = against_plain.growth()
    return {'models': rows, 'growth': growth}, against_plain.table(rows, growth)


def _bench(
    model: str, checkpoint: Path | None, device: str, frames: int, settings: dict
) -> tuple[dict, str]:
    from tpf_tracker_ros.system.process import leave_cores

    leave_cores()
    from tpf_tracker_ros.bench import step_time
    from tpf_tracker_ros.data.film import WorldSequence
    from tpf_tracker_ros.engines.choose import choose_device
    from tpf_tracker_ros.models import create_model, packaged_weights
    from tpf_tracker_ros.models.checkpoint import load_model
    from tpf_tracker_ros.tracking.load import model_settings

    config = model_settings(model, **settings)
    trained = checkpoint or packaged_weights(model)
    network = load_model(model, checkpoint) if trained else create_model(model)
    sequence = WorldSequence(0, frames=frames)
    result = step_time.bench_model(network, choose_device(device), sequence, config)
    return result, step_time.table([result])


@click.command(
    'export',
    epilog=examples(
        'tpf export --model tpf_nano --out nano_onnx',
        'tpf track flight.mcap --init 310,200,24,18 --out result --checkpoint nano_onnx',
    ),
)
@model_option
@checkpoint_option
@click.option(
    '--format', 'form', type=click.Choice(['onnx', 'torchscript']), default='onnx',
    show_default=True,
)  # fmt: skip
@click.option('--int8', is_flag=True, help='Quantize matrix products: smaller, less exact.')
@click.option(
    '--frames', type=click.IntRange(2), default=150, show_default=True, help='Length of the check.'
)
@click.option('--out', required=True, type=click.Path(path_type=Path), help='Folder to write.')
@tracker_settings
def export_model(
    model: str,
    checkpoint: Path | None,
    form: str,
    int8: bool,
    frames: int,
    out: Path,
    settings: dict,
) -> None:
    """Export for CPUs, and check on a synthetic film that the boxes stay the same."""
    from tpf_tracker_ros.bench.agreement import check_export
    from tpf_tracker_ros.data.film import WorldSequence
    from tpf_tracker_ros.engines import export
    from tpf_tracker_ros.models.checkpoint import load_model
    from tpf_tracker_ros.tracking.load import model_settings

    network = load_model(model, checkpoint)
    network.max_templates = min(model_settings(model, **settings).templates, network.max_templates)
    export.export_model(network, out, form=form, int8=int8)
    overlap = check_export(out, WorldSequence(0, frames=frames))
    click.echo(f'{out}: boxes agree with the plain path to a mean IoU of {overlap:.4f}')


@click.command(
    'import-weights',
    epilog=examples(
        'tpf import-weights OSTrack_ep0300.pth.tar --model tpf_base --out weights.safetensors',
        'tpf import-weights CKD_ep0010.pth.tar --model ckd_base --out ckd.safetensors',
    ),
)
@click.argument('file', type=click.Path(path_type=Path))
@click.option('--model', default='tpf_base', show_default=True, help='See: tpf models.')
@click.option('--out', required=True, type=click.Path(path_type=Path), help='The .safetensors.')
def import_weights(file: Path, model: str, out: Path) -> None:
    """Convert a published checkpoint, of OSTrack, CKD, SDSTrack, ...; nothing in it is run."""
    from tpf_tracker_ros.models.import_weights import import_weights

    click.echo(import_weights(file, model, out))
