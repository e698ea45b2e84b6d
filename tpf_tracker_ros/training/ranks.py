"""The processes that `torchrun` starts for one training, one for each GPU; usually just one."""

import os

import torch
from torch import nn, Tensor
import torch.distributed as dist


class Ranks:
    """One process among all of a training; alone unless torchrun started it."""

    def __init__(self, device: str) -> None:
        self.count = int(os.environ.get('WORLD_SIZE', 1))
        self.rank = int(os.environ.get('RANK', 0))
        self.device = device
        if self.count > 1:
            if device.startswith('cuda'):
                self.device = f'cuda:{os.environ["LOCAL_RANK"]}'
                torch.cuda.set_device(self.device)
            if not dist.is_initialized():
                dist.init_process_group('nccl' if device.startswith('cuda') else 'gloo')

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """
        Make every process's gradients their mean over all.

        By hand, because DistributedDataParallel only sees `forward`, and networks are trained
        through `merge` and `template`, too.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.count == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients]) / self.count
        dist.all_reduce(flat)
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(mean.view_as(gradient))

    def share_buffers(self, network: nn.Module) -> None:
        """
        Give every process the first one's running statistics, as DistributedDataParallel does.

        Only the first one's are saved, and what reads them must go on alike after a resume.
        """
        buffers = [b for b in network.buffers() if b.is_floating_point()]
        if self.count == 1 or not buffers:
            return
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        dist.broadcast(flat, 0)
        for buffer, first in zip(buffers, flat.split([b.numel() for b in buffers])):
            buffer.copy_(first.view_as(buffer))

    def agree(self, value: float) -> float:
        """Return the first process's value, such as its clock."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def gather(self, state: Tensor) -> list[Tensor]:
        """Return a small CPU tensor of every process, in the order of ranks."""
        if self.count == 1:
            return [state]
        states: list[Tensor] = [state] * self.count
        dist.all_gather_object(states, state)
        return states
