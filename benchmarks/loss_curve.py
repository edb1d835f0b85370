"""The loss of the first training steps with native operators and with backend="reference": same weights, same batches, one curve beside the other.

    python benchmarks/loss_curve.py NETWORK RECIPE DATA [--split NAME] [--steps 100]      writes results/loss_NETWORK_RECIPE.json
"""
import argparse
import tempfile
from pathlib import Path

import torch
from python_models.registry import list_recipes
from python_models.training import loop
from python_models.training.config import TrainConfig, read_recipe
from python_models.training.train import train

import result_file


class Enough(Exception):
    pass


def curve(network: str, recipe: str, data: str, split: str | None, steps: int, backend: str) -> list[float]:
    losses: list[float] = []
    step = loop.Task.training_step

    def recorded(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        losses.append(loss.item())
        print(f"{backend} step {len(losses)}: loss {losses[-1]:.5f}", flush=True)
        if len(losses) == steps:
            raise Enough
        return loss

    loop.Task.training_step = recorded
    found = read_recipe(list_recipes(network)[recipe])
    try:
        with tempfile.TemporaryDirectory() as folder:
            values = {**found.values, **({"split": split} if split else {})}
            train(TrainConfig(model=network, data=Path(data), out=Path(folder) / "run", backend=backend, progress=False, **values), found.options)
    except Enough:
        pass
    finally:
        loop.Task.training_step = step
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("recipe")
    parser.add_argument("data")
    parser.add_argument("--split")
    parser.add_argument("--steps", type=int, default=100)
    o = parser.parse_args()
    ext, reference = (torch.tensor(curve(o.network, o.recipe, o.data, o.split, o.steps, backend)) for backend in ("ext", "reference"))
    apart, smooth = (ext - reference).abs(), (ext - reference).unfold(0, min(10, o.steps), 1).mean(1).abs()
    differences = dict(largest_difference=apart.max().item(), mean_difference=apart.mean().item(), largest_difference_of_means_of_10=smooth.max().item())
    print(differences)
    result_file.write(f"loss_{o.network}_{o.recipe}", torch.get_num_threads(), network=o.network, recipe=o.recipe, data=Path(o.data).name, **differences, ext=ext.tolist(), reference=reference.tolist())


if __name__ == "__main__":
    main()
