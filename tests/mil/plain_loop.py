"""The field's training loop, one bag at a time: the reference the engine is held against."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine import Replicate, ResidentBags
from aml_mil.mil.head import Head, HeadShape, initial_head
from aml_mil.mil.sampling import CellDropout, draw_epoch, weight_seed


@dataclass
class PlainResult:
    best_epoch: int
    last_epoch: int
    train_losses: list[float]
    val_losses: list[float]
    head: Head


def train_plainly(
    replicate: Replicate, bags: ResidentBags, *, shape: HeadShape, config: FitConfig
) -> PlainResult:
    head = initial_head(shape, seed=weight_seed(seed=replicate.seed, fold=replicate.fold))
    head = head.to(bags.table.dtype)
    cells = plain_cells(bags, shape)
    optimiser = torch.optim.SGD(
        head.parameters(), lr=config.lr, momentum=config.momentum, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=config.epochs)
    result = PlainResult(-1, -1, [], [], head)
    best_loss, best_state = float("inf"), {}
    for epoch in range(config.epochs):
        result.train_losses.append(
            _train_epoch(head, optimiser, replicate, bags, cells, epoch, config)
        )
        schedule.step()
        val_loss = _validate(head, replicate, bags, cells)
        result.val_losses.append(val_loss)
        result.last_epoch = epoch
        if val_loss < best_loss:
            best_loss, result.best_epoch = val_loss, epoch
            best_state = {name: value.clone() for name, value in head.state_dict().items()}
        if epoch - result.best_epoch >= config.patience:
            break
    head.load_state_dict(best_state)
    return result


def plain_cells(bags: ResidentBags, shape: HeadShape) -> torch.Tensor:
    """Every cell of the table as the store has it, [rows, D] or [rows, D, H, W]."""
    return bags.table.cells[..., : shape.feature_shape[0]].mT.reshape(-1, *shape.feature_shape)


def _train_epoch(head, optimiser, replicate, bags, cells, epoch, config):
    draw = draw_epoch(
        train=replicate.train,
        targets=bags.targets,
        bag_sizes=bags.sizes,
        num_views=bags.num_views,
        one_view_a_bag=bags.one_view_a_bag,
        max_cells=config.max_cells,
        sampling=config.sampling,
        seed=replicate.seed,
        fold=replicate.fold,
        epoch=epoch,
    )
    rows = bags.drawn(draw, store=replicate.store)
    dropout = CellDropout(config.dropout, seed=replicate.seed, fold=replicate.fold, epoch=epoch)
    head.train()
    losses = []
    start = 0
    optimiser.zero_grad()
    for i, (size, target) in enumerate(zip(rows.sizes, rows.targets, strict=True)):
        reduced = head.reduce(cells[torch.from_numpy(rows.rows[start : start + size])])
        start += size
        if config.dropout:
            factors = dropout.factors(size, reduced.shape[1])
            reduced = reduced * torch.from_numpy(factors).to(reduced.dtype)
        loss = cross_entropy(head.classify(reduced).logits, torch.tensor(target))
        loss.backward()
        losses.append(loss.item())
        if (i + 1) % config.accumulate == 0 or i + 1 == len(rows.sizes):
            optimiser.step()
            optimiser.zero_grad()
    return float(np.mean(losses))


def _validate(head, replicate, bags, cells):
    head.eval()
    losses = []
    with torch.no_grad():
        for bag in replicate.validation:
            rows = bags.whole(np.array([bag]), store=replicate.store)
            output = head(cells[torch.from_numpy(rows.rows)])
            losses.append(cross_entropy(output.logits, torch.tensor(rows.targets[0])).item())
    return float(np.mean(losses))
