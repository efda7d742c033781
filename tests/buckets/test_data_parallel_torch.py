"""Data-parallel training with the batches of a plan: 1, 2 and 4 processes do what training without padding does."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

EXAMPLES = Path(__file__).parents[2] / "examples"
EPOCHS = 2

# One process imports PyTorch and forks all the others: importing takes longer than what they compute.
DRIVER = """
    import copy, json, os, sys, traceback
    from datetime import timedelta
    import torch, torch.distributed as dist
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader
    import seqpar
    examples, where, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.path.insert(0, examples)
    import bucketed_training as example

    torch.set_num_threads(1)
    data = example.Oscillations(70, seed=3, dtype=torch.float64)
    plan = example.planned(data, 3, 256)

    def in_processes(count, job, *given):
        '''What each of so many processes found, rank by rank.'''
        in_processes.calls += 1
        meet = f"{where}/{in_processes.calls}"
        children = []
        for rank in range(count):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    dist.init_process_group(
                        "gloo", init_method=f"file://{meet}.meet", rank=rank, world_size=count,
                        timeout=timedelta(seconds=120),
                    )
                    torch.save(job(rank, count, *given), f"{meet}.{rank}")
                    dist.barrier()
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)  # the end of an interpreter with a process group sometimes aborts
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * count
        return [torch.load(f"{meet}.{rank}", weights_only=True) for rank in range(count)]
    in_processes.calls = 0

    def train(rank, processes, state=None, stop=None):
        losses, state = example.train(rank, processes, data, plan, epochs, state, stop)
        return losses, state

    def trained(processes, state=None, stop=None):
        found = in_processes(processes, train, state, stop)
        losses, state = found[0]
        weights = {name.removeprefix("module."): w for name, w in state["model"].items()}
        for other_losses, other_state in found[1:]:
            assert other_losses == losses and other_state["sampler"] == state["sampler"]
            assert all(torch.equal(w, other_state["model"][f"module.{name}"]) for name, w in weights.items())
        return losses, [x for w in weights.values() for x in w.flatten().tolist()], state

    def groups(epochs):
        '''The samples that each step of the optimiser sees.'''
        sampler = seqpar.BucketSampler(plan, data.lengths, seed=0, ranks_per_step=example.RANKS)
        for epoch in range(epochs):
            together = []
            for batch in sampler:
                together += batch.real
                if batch.last:
                    assert len(together) == batch.samples
                    assert sum(data.lengths[i] for i in together) == batch.tokens
                    yield [data[i] for i in together]
                    together = []

    def plain():
        '''Training on the same groups, one sequence at a time, without padding, weights or processes.'''
        torch.manual_seed(0)
        model = example.Classifier().to(torch.float64)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for group in groups(epochs):
            each = [
                cross_entropy(model(x[None], torch.ones(1, len(x), dtype=torch.bool)), torch.tensor([label]))
                for x, label in group
            ]
            loss = torch.stack(each).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses, [x for w in model.parameters() for x in w.flatten().tolist()]

    def next_value():
        '''A model for a loss of every step: the next value from the state before it.'''
        torch.manual_seed(1)
        return example.Classifier(8).to(torch.float64)

    def step_losses(model, x):
        states = model.gru(x)[0][:, :-1]
        return (model.out(states).sum(-1) - x[:, 1:, 0]).square()

    class StepLosses(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = next_value()
        def forward(self, x):
            return torch.nn.functional.pad(step_losses(self.model, x), (1, 0))

    def gradient(model):
        found = [w.grad.clone().flatten() for w in model.parameters()]
        model.zero_grad()
        return torch.cat(found)

    def token_gradients(rank, processes):
        '''The gradient of every step, with losses normalised by the collator and by `normalised_loss`.'''
        model = DistributedDataParallel(StepLosses())
        sampler = seqpar.BucketSampler(
            plan, data.lengths, seed=0, rank=rank, world_size=processes, ranks_per_step=example.RANKS
        )
        found = []
        for normalise in ("tokens", None):
            sampler.set_epoch(1)
            sampler.set_epoch(0)
            collate = plan.collator(normalise=normalise)
            loader = DataLoader(
                plan.wrap(data), batch_sampler=sampler,
                collate_fn=lambda samples: (*collate(samples), samples.batch),
            )
            for (x, label), mask, weights, batch in loader:
                model.require_backward_grad_sync = batch.last
                losses = model(x)
                if normalise:
                    each = weights[:, None] * torch.where(mask, losses, 0)
                    loss = each.sum()
                else:
                    loss = seqpar.normalised_loss(losses, weights, mask, total=batch.tokens, world_size=processes)
                loss.backward()
                if batch.last:
                    found.append(gradient(model))
        return torch.stack(found).unflatten(0, (2, -1))

    def plain_token_gradients():
        model = StepLosses()
        found = []
        for group in groups(1):
            (sum(model(x[None]).sum() for x, label in group) / sum(len(x) for x, label in group)).backward()
            found.append(gradient(model))
        return torch.stack(found)

    def fetched(workers, state=None, stop=None):
        '''Padded sequences of batches as a loader gives them, and the state after the last of them.'''
        sampler = seqpar.BucketSampler(plan, data.lengths, seed=0)
        if state is not None:
            sampler.load_state_dict(state)
        loader = DataLoader(
            plan.wrap(data), batch_sampler=sampler, num_workers=workers,
            collate_fn=lambda samples: (*plan.collate(samples), samples.batch),
        )
        sums = []
        for (x, label), mask, weights, batch in loader:
            sums.append([list(x.shape), float(x.sum()), int(mask.sum()), int(label.sum()), batch.tokens])
            if len(sums) == stop:
                break
        return sums, sampler.state_after(batch), sampler.state_dict()

    found = {}
    found["steps"] = len(list(groups(epochs)))
    found["fillers"] = sum(-1 in batch for batch in seqpar.BucketSampler(plan, data.lengths, seed=0, ranks_per_step=4))
    found["loader"] = fetched(0)[0]
    found["plain"] = plain()
    for processes in (1, 2, 4):
        found[f"{processes} processes"] = trained(processes)[:2]
    middle = found["steps"] // epochs
    first = trained(4, None, middle - 2)
    second = trained(1, first[2], 4)
    third = trained(2, second[2])
    found["resumed"] = first[0] + second[0] + third[0], third[1]
    found["parts"] = [len(part[0]) for part in (first, second, third)]
    found["states"] = [first[2]["sampler"], second[2]["sampler"], third[2]["sampler"]]
    wanted = plain_token_gradients()
    scale = wanted.abs().max()
    # Two processes add up batches and take the mean over processes.
    found["token gradients"] = [
        float((each - wanted).abs().max() / scale) for each in in_processes(2, token_gradients)
    ]
    found["workers"] = fetched(2)[0]
    some, after, ahead = fetched(2, None, 3)
    found["prefetched"] = after, ahead
    found["went on"] = some + fetched(0, after)[0]
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not hasattr(os, "fork"):
        pytest.skip("the processes of this test are forked, and this platform has no fork")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":  # a machine whose own name leads nowhere has this interface all the same
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(EXAMPLES)]
    command += [str(tmp_path_factory.mktemp("group")), str(EPOCHS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-5000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def largest_difference(one: list[float], other: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(one, other, strict=True))


def test_the_batches_of_this_test_have_fillers_and_its_epochs_several_steps(found: dict[str, Any]) -> None:
    assert found["fillers"] > 0
    assert found["steps"] >= 8


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_losses_and_weights_are_those_of_training_without_padding(
    found: dict[str, Any], processes: int
) -> None:
    losses, weights = found["plain"]
    assert len(losses) == found["steps"]
    assert largest_difference(found[f"{processes} processes"][0], losses) < 1e-10
    assert largest_difference(found[f"{processes} processes"][1], weights) < 1e-10


def test_training_goes_on_in_the_middle_of_an_epoch_with_another_number_of_processes(
    found: dict[str, Any],
) -> None:
    assert all(found["parts"])
    assert [state["epoch"] for state in found["states"]] == [0, 1, 2]
    assert found["states"][0]["step"] > 0
    assert found["states"][1]["step"] > 0
    losses, weights = found["resumed"]
    assert largest_difference(losses, found["plain"][0]) < 1e-10
    assert largest_difference(weights, found["plain"][1]) < 1e-10


def test_a_mean_over_steps_has_the_gradient_of_sequences_without_padding(found: dict[str, Any]) -> None:
    assert len(found["token gradients"]) == 2
    assert max(found["token gradients"]) < 1e-12


def test_workers_that_fetch_ahead_change_nothing_and_lose_nothing(found: dict[str, Any]) -> None:
    assert found["workers"] == found["loader"]
    after, ahead = found["prefetched"]
    assert ahead["step"] > after["step"] == 3
    assert found["went on"] == found["loader"]
