"""
What networks lose between each other's features: the distillation of CKD, SDSTrack and CMD.

Tokens are (B, N, D). Formulas of CKD and SDSTrack are those of their public code, those of CMD
are our reconstruction (docs/models.md). All is computed in float32 at least.
"""

import torch
from torch import Tensor
from tpf_tracker_ros.models.layers.vit import to_slots
from tpf_tracker_ros.models.sdstrack import Fused


def standardized(tokens: Tensor) -> Tensor:
    """Tokens (B, N, D) with mean 0 and variance 1 over N in each sample and channel."""
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    variance, mean = torch.var_mean(tokens, 1, correction=0, keepdim=True)
    return (tokens - mean) * (variance + 1e-5).rsqrt()


def content_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """CKD: squared distance of standardized tokens; the teacher learns nothing. 2: unrelated."""
    return (standardized(teacher.detach()) - standardized(student)).square().mean()


def style_loss(one: Tensor, other: Tensor) -> Tensor:
    """CKD: squared distances of mean and deviation over the tokens of both students."""
    dtype = torch.promote_types(one.dtype, torch.float32)
    (sd_a, mean_a), (sd_b, mean_b) = (torch.std_mean(x.to(dtype), 1) for x in (one, other))
    return ((mean_a - mean_b).square() + (sd_a - sd_b).square()).mean()


def common(one: Tensor, other: Tensor) -> Tensor:
    """CMD: what two modalities say alike, elementwise; 0 where they disagree in sign."""
    return (one.sign() + other.sign()) / 2 * torch.minimum(one.abs(), other.abs())


def common_specific_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    alive: tuple[Tensor, Tensor],
    *,
    specific_weight: float = 0.5,
) -> Tensor:
    """
    Compare by CMD's SCFD on one level: common features once, specific ones by modality.

    student, teacher: standardized tokens (B, N, D), RGB and thermal; alive: bool (B,) each,
    whether the student saw the camera: a dead one has nothing specific to be learned. 1.73:
    unrelated. The min form is not equal to plain distillation, as mean and difference would be.
    """
    shared, taught = common(*student), common(*teacher)
    loss = (shared - taught).square().mean()
    for s, t, there in zip(student, teacher, alive):
        apart = ((s - shared) - (t - taught)).square().mean((1, 2))
        loss = loss + specific_weight * (apart * there).sum() / there.sum().clamp(min=1)
    return loss


def plain_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Sum of both modalities' squared distances of standardized tokens; 4: unrelated."""
    return sum((s - t).square().mean() for s, t in zip(student, teacher))


def path_loss(
    student: list[Tensor], teacher: list[Tensor], share: Tensor, place: Tensor
) -> Tensor:
    """
    Teach by CMD's MPSD: the fused feature learns from each path of the teacher, by its share.

    student, teacher: a path's features, (B, C, G, G), of equal shape; share: (B, P), rows sum
    to one; place: how much each cell counts, (B, 1, G, G).
    """
    place = place.flatten(1)  # (B, N)
    place = place / place.sum(1, keepdim=True)
    costs = []
    for s, t in zip(student, teacher):
        s, t = (standardized(x.flatten(2).transpose(1, 2)) for x in (s, t))  # (B, N, C)
        costs.append(((s - t).square().mean(2) * place).sum(1))
    return (torch.stack(costs, 1) * share).sum(1).mean()


def response_loss(student: Tensor, teacher: Tensor, *, gamma: float = 1.0) -> Tensor:
    """CMD: cross entropy of score maps between 0 and 1, weighted by how far they are apart."""
    weight = (teacher - student).detach().abs() ** gamma
    teacher = teacher.detach()
    each = -(teacher * student.log() + (1 - teacher) * (1 - student).log())
    return (weight * each).sum() / weight.sum().clamp(min=1e-9)


def slots_loss(one: Fused, other: Fused, total: int) -> Tensor:
    """
    Mean squared distance of two passes' fused tokens, each compared with the same patch.

    Ours: with elimination the public code compares the k-th best tokens of both passes, whatever
    patches they are. A search token counts where both passes kept it. total: of search tokens.
    """
    count = one.tokens.shape[1] - one.kept.shape[1]
    templates = (one.tokens[:, :count] - other.tokens[:, :count]).float().square().mean(-1)
    tokens, kept = [], []
    for fused in (one, other):
        tokens.append(to_slots(fused.tokens[:, count:], fused.kept, total))
        there = torch.zeros(len(fused.kept), total, device=fused.kept.device)
        kept.append(there.scatter(1, fused.kept, 1.0))
    both = kept[0] * kept[1]
    search = (tokens[0] - tokens[1]).float().square().mean(-1) * both
    return (templates.sum() + search.sum()) / (templates.numel() + both.sum())
