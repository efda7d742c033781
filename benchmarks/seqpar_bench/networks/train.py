"""Train the networks of this folder. Needs PyTorch and a minute or two on one core.

python -m seqpar_bench.networks.train
"""

from itertools import count
from pathlib import Path

import numpy as np
import torch

Network = tuple[torch.nn.GRU, torch.nn.Linear]


def adding(hidden: int = 32) -> Network:
    """Sequences of 10 to 100 steps, each until the mean squared error is 0.004 (guessing the mean has 0.17)."""
    torch.manual_seed(0)
    gru, out = torch.nn.GRU(2, hidden, batch_first=True), torch.nn.Linear(hidden, 1)
    optimizer = torch.optim.Adam([*gru.parameters(), *out.parameters()], lr=1e-2)
    for steps in (10, 25, 50, 100):
        mean = 1.0
        for update in count(1):
            x, wanted = adding_problem(steps)
            error = (out(gru(x)[0][:, -1])[:, 0] - wanted).square().mean()
            descend(optimizer, gru, error)
            mean = 0.98 * mean + 0.02 * float(error.detach())
            if mean < 0.004:
                print(f"adding, {steps} steps: mean squared error {mean:.4f} after {update} updates")
                break
    return gru, out


def adding_problem(steps: int, batch: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers in [0, 1), two of them marked, and the sum of these two."""
    numbers, marks = torch.rand(batch, steps), torch.zeros(batch, steps)
    first = torch.randint(0, steps // 2, (batch, 1))
    second = torch.randint(steps // 2, steps, (batch, 1))
    marks.scatter_(1, first, 1.0).scatter_(1, second, 1.0)
    return torch.stack([numbers, marks], -1), (numbers * marks).sum(1)


def sine(hidden: int = 8, steps: int = 200, updates: int = 1500) -> Network:
    torch.manual_seed(1)
    gru, out = torch.nn.GRU(1, hidden, batch_first=True), torch.nn.Linear(hidden, 2)
    optimizer = torch.optim.Adam([*gru.parameters(), *out.parameters()], lr=1e-2)
    likelihood = 0.0
    for _ in range(updates):
        phase = 6.28 * torch.rand(32, 1) + 0.2 * torch.arange(steps + 1)
        y = torch.sin(phase) + 0.1 * torch.randn(32, steps + 1)
        mean, log_deviation = out(gru(y[:, :-1, None])[0]).unbind(-1)
        loss = (log_deviation + 0.5 * ((y[:, 1:] - mean) / log_deviation.exp()) ** 2).mean()
        descend(optimizer, gru, loss)
        likelihood = -float(loss.detach())
    print(f"sine: log likelihood {likelihood:.2f} a step")
    return gru, out


def descend(optimizer: torch.optim.Optimizer, gru: torch.nn.GRU, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(gru.parameters(), 1.0)
    optimizer.step()


def write(name: str, network: Network) -> None:
    """Weights for x @ W + b and h @ U + c, gates in PyTorch's order (reset, update, new); V and d of the output."""
    tensors = [tensor.numpy() for part in network for tensor in part.state_dict().values()]
    arrays = {key: tensor.T for key, tensor in zip("WUbcVd", tensors, strict=True)}
    np.savez(Path(__file__).parent / f"{name}.npz", **arrays)


if __name__ == "__main__":
    torch.set_num_threads(1)
    write("sine", sine())
    write("adding", adding())
