"""The batches of a plan in JAX, sharded over four devices on the CPU: one program per bucket, and the losses of one device."""

import subprocess
import sys
import textwrap

import pytest

from quick_xla import on_devices

pytest.importorskip("jax")

CODE = """
    import jax, jax.numpy as jnp, numpy as np, seqpar
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

    random = np.random.default_rng(0)
    lengths = random.lognormal(2.5, 0.7, 90).clip(2, 60).astype(int)
    data = [(random.standard_normal((n, 2)), float(label)) for n, label in zip(lengths, random.standard_normal(90))]
    plan = seqpar.plan_buckets(lengths, 3, max_tokens=120, ranks_per_step=4)
    wrapped, collate = plan.wrap(data), plan.collator(sequence=(True, False))
    start = {"u": random.normal(size=(2, 5)), "w": random.normal(size=(5, 5)) / 3, "out": random.normal(size=5)}

    traced = []
    def loss(params, x, label, mask, weights, samples):
        # An Elman network read out at the end of each sequence: behind it the state is kept.
        traced.append(x.shape)
        def step(h, now):
            x, real = now
            return jnp.where(real[:, None], jnp.tanh(x @ params["u"] + h @ params["w"]), h), None
        h = jax.lax.scan(step, jnp.zeros((x.shape[0], 5)), (x.swapaxes(0, 1), mask.T))[0]
        errors = (h @ params["out"] - label) ** 2
        # The arrays are those of all devices, so their sum is that of all ranks.
        return seqpar.normalised_loss(errors, weights, total=samples, reduction="sum")
    @jax.jit
    def train(params, *batch):
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), value

    compiled = []
    def count(event, duration, **facts):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    def sampler(rank=0, world_size=1):
        return seqpar.BucketSampler(
            plan, lengths, seed=0, rank=rank, world_size=world_size, ranks_per_step=4
        )
    def collated(batch):
        (x, label), mask, weights = collate(wrapped.__getitems__(batch))
        return x, label, mask, weights

    def on_devices():
        '''One sampler for each device, as each process of a cluster has one; no array is ever whole on the host.'''
        for batches in zip(*(sampler(rank, 4) for rank in range(4)), strict=True):
            shards = [
                jax.device_put(collated(batch), device) for batch, device in zip(batches, mesh.devices, strict=True)
            ]
            yield batches[0], [
                jax.make_array_from_single_device_arrays((4 * x[0].shape[0], *x[0].shape[1:]), rows, list(x))
                for x in zip(*shards, strict=True)
            ]
    def on_one():
        '''One sampler, which gives the four batches of a group one after the other.'''
        parts = []
        for batch in sampler():
            parts.append(collated(batch))
            if batch.last:
                yield batch, [np.concatenate(x) for x in zip(*parts, strict=True)]
                parts = []
    def trained(batches, params, epochs=2):
        losses, shapes = [], set()
        for epoch in range(epochs):
            for batch, arrays in batches():
                shapes.add((batch.boundary, arrays[0].shape))
                params, value = train(params, *arrays, float(batch.samples))
                losses.append(float(value))
        return losses, shapes, params

    def plain(params):
        '''Sequence after sequence in NumPy, without padding, from losses alone: the loss of each group before its step.'''
        def last(x):
            h = np.zeros(5)
            for now in x:
                h = np.tanh(now @ params["u"] + h @ params["w"])
            return h
        return [
            np.mean([(last(data[i][0]) @ params["out"] - data[i][1]) ** 2 for i in together])
            for together in groups
        ]
    groups, together = [], []
    for batch in sampler():
        together += batch.real
        if batch.last:
            groups.append(together)
            together = []

    jax.monitoring.register_event_duration_secs_listener(count)
    sharded = jax.device_put(start, everywhere)
    jax.block_until_ready(sharded)
    del compiled[:]
    losses, shapes, params = trained(on_devices, sharded)
    assert len(shapes) == plan.n_buckets == 3, shapes
    assert len(compiled) == 3 and len(traced) == 3, (compiled, traced)
    assert all(leaf.sharding.is_equivalent_to(everywhere, leaf.ndim) for leaf in jax.tree.leaves(params))
    # What a device computes is its own rows: the program sends no more than gradients and the loss.
    for batch, arrays in on_devices():
        text = train.lower(sharded, *arrays, 1.0).compile().as_text()
        assert "all-reduce" in text
        assert not any(word in text for word in ("all-gather", "all-to-all", "collective-permute")), text
        assert arrays[0].addressable_shards[1].data.shape == (plan.batch_sizes[batch.bucket], batch.boundary, 2)
        break

    alone, _, params_of_one = trained(on_one, jax.device_put(start, jax.devices()[0]))
    np.testing.assert_allclose(losses, alone, rtol=1e-12)
    for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(params_of_one), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-10, atol=1e-13)
    fillers = [batch for batch in sampler() if -1 in batch]
    assert fillers and len(losses) == 2 * len(groups) and losses[0] > losses[-1]
    # The losses before any training, of all groups: those of sequences that were never padded.
    start_on_one = jax.device_put(start, jax.devices()[0])
    first = [float(train(start_on_one, *arrays, float(batch.samples))[1]) for batch, arrays in on_one()]
    np.testing.assert_allclose(first, plain(start), rtol=1e-12)
"""


def test_four_devices_train_as_one_does_with_one_program_per_bucket() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(CODE)],
        env=on_devices(4, x64=True),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
