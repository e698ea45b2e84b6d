"""
Quality of fused images: the PFA beside plain averaging and the built-in experts.

    python benchmarks/fusion.py --pairs ../shared/data/roadscene --sheet sheet.png
    python benchmarks/fusion.py --seeds 12 --sheet docs/fusion.png

Prints the mean of each measure (higher is better), over registered real pairs (a folder of
visible/NAME and infrared/NAME) or over frames of the synthetic world; draws a contact sheet.
"""

import argparse
from collections.abc import Callable, Iterator
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import write_file
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.data.panned import read_pairs
from tpf_tracker_ros.engines.choose import choose_device
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.evaluation.fusion import fusion_measures
from tpf_tracker_ros.models.checkpoint import load_model
from tpf_tracker_ros.training.experts import list_experts, load_expert

Fusion = Callable[[np.ndarray, np.ndarray], np.ndarray]
CELL = 240  # px, width of a picture in the sheet
CAPTION = 22  # px


def real_pairs(folder: Path, count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, RGB uint8 (H, W, 3) and thermal as three equal channels, uint8 (H, W, 3)."""
    count = count or len(list((folder / 'visible').iterdir()))
    for name, rgb, thermal in read_pairs(folder, count, 0):
        yield name, rgb, np.dstack([ThermalRange().to_uint8(thermal)] * 3)


def world_pairs(seeds: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """One frame of a film for each seed, at a time when both cameras see."""
    for seed in range(seeds):
        pair = next(iter(WorldSequence(seed, frames=2)))
        yield f'world {seed}', pair.rgb, np.dstack([ThermalRange().to_uint8(pair.thermal)] * 3)


def average(rgb: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    """Where the PFA starts from."""
    return cv2.addWeighted(rgb, 0.5, thermal, 0.5, 0)


def expert_fusion(name: str, device: str) -> Fusion:
    """Return an expert on uint8 images."""
    expert = load_expert(name)

    def fuse(rgb: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        images = (torch.from_numpy(image).to(device) for image in (rgb, thermal))
        fused = expert(*(image.permute(2, 0, 1)[None] / 255 for image in images))
        return (fused[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()

    return fuse


def luminance(image: np.ndarray) -> np.ndarray:
    """Grey uint8 (H, W), on which all measures are taken."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def captioned(image: np.ndarray, text: str, height: int) -> np.ndarray:
    """Return a cell of the sheet."""
    cell = np.full((height + CAPTION, CELL, 3), 255, np.uint8)
    cell[CAPTION:] = cv2.resize(image, (CELL, height), interpolation=cv2.INTER_AREA)
    cv2.putText(cell, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return cell


def sheet_row(name: str, images: dict[str, np.ndarray]) -> np.ndarray:
    """All pictures of one pair beside each other."""
    height = round(CELL * 3 / 4)
    titles = {key: f'{name} {key}' if key == 'rgb' else key for key in images}
    return np.hstack([captioned(image, titles[key], height) for key, image in images.items()])


def print_table(means: dict[str, dict[str, float]]) -> None:
    """Return a line for each fusion, a column for each measure."""
    columns = list(next(iter(means.values())))
    print(f'{"":14}' + ''.join(f'{column:>12}' for column in columns))
    for name, row in means.items():
        print(f'{name:14}' + ''.join(f'{row[column]:12.4f}' for column in columns))


def main() -> None:
    """Parse the command line, fuse, measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--pairs', type=Path, help='folder of real pairs; default: the world')
    parser.add_argument('--count', type=int, default=0, help='real pairs to use; default: all')
    parser.add_argument('--seeds', type=int, default=12, help='films of the world to use')
    parser.add_argument('--model', default='tpf_tiny')
    parser.add_argument('--checkpoint', type=Path, help='weights other than the packaged ones')
    parser.add_argument('--experts', nargs='*', default=list(list_experts()), help='or files')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--sheet', type=Path, help='write the contact sheet here (png)')
    parser.add_argument('--rows', type=int, default=8, help='pairs on the sheet')
    parser.add_argument('--json', type=Path, help='write the means and all records here')
    args = parser.parse_args()
    try:
        run(args)
    except TpfError as error:
        parser.exit(1, f'error: {error}\n')


def run(args: argparse.Namespace) -> None:
    """Fuse all pairs in every way."""
    device = choose_device(args.device)
    engine = Engine(load_model(args.model, args.checkpoint), device)
    fusions: dict[str, Fusion] = {'average': average, 'PFA': engine.fuse}
    fusions |= {Path(name).stem: expert_fusion(name, device) for name in args.experts}
    records, rows = [], []
    pairs = real_pairs(args.pairs, args.count) if args.pairs else world_pairs(args.seeds)
    for name, rgb, thermal in pairs:
        fused = {key: fuse(rgb, thermal) for key, fuse in fusions.items()}
        sources = luminance(rgb), thermal[..., 0]
        for key, image in fused.items():
            measures = fusion_measures(*sources, luminance(image))
            records.append({'pair': name, 'fusion': key} | measures)
        if len(rows) < args.rows:
            rows.append(sheet_row(name, {'rgb': rgb, 'thermal': thermal} | fused))
    means = {
        key: {
            measure: float(np.nanmean([r[measure] for r in records if r['fusion'] == key]))
            for measure in ('q_abf', 'deviation', 'entropy', 'gradient', 'frequency')
        }
        for key in fusions
    }
    print(f'{len(records) // len(fusions)} pairs')
    print_table(means)
    if args.sheet:
        sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
        write_file(args.sheet, cv2.imencode('.png', sheet)[1].tobytes())
    if args.json:
        write_file(args.json, json.dumps({'means': means, 'records': records}, indent=1).encode())


if __name__ == '__main__':
    main()
