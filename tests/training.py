"""The training loop of the tiny models: one thread, a rate that rises and falls, so many steps; the folder is written."""

from collections.abc import Callable
from pathlib import Path

import torch


def train(model, tokenizer, loss: Callable[..., torch.Tensor], steps: int, folder: Path, rate: float = 1e-2) -> None:
    """Take `steps` steps down loss(model), and save model and tokenizer. One thread: the same weights on every machine,
    nearly, and no slower, as the matrices are tiny."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        value = loss(model)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
