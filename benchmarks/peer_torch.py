"""PyTorch + transformers at the work of a benchmark: one side of a comparison.

usage: peer_torch.py WORKLOAD.json fp32|bf16 THREADS [--device cuda] [--compile] [--liger] [--losses MODEL]

Loads, warms up, prints one JSON line, then answers every line of standard input with one timed round (benchmarks/
protocol.ts has the fields). The workload file, made by benchmarks/workload.ts, holds the model's config, the documents
of each step, and the optimizer's settings. What is done as a careful user would do it:

- attention by scaled_dot_product_attention, AdamW in its fused form, gradients set to None;
- bf16 is autocast over float32 weights, which is what `bf16: true` of the Trainer does;
- documents of one length go in without a mask, which lets transformers take its causal fast path; others are padded to
  the longest of the step with a mask, as a data collator does. Tensors are made before the clock starts;
- tokens counted are those of the documents, without padding;
- the gradients of a step's micro-batches are added up, each counting by its part of the step's labels;
- on a card nothing is read back within a round, and its end is waited for.

--liger: with Liger's kernels in place of transformers' own. --losses MODEL: instead of rounds, trains the directory
MODEL for each of the workload's steps once, and prints their losses.
"""

import argparse
import json
import platform
import re
import statistics
import sys
import time

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM


def peak_rss_mib():
    """getrusage() would report the parent's peak if that was higher when this process was started."""
    with open("/proc/self/status") as status:
        return int(re.search(r"^VmHWM:\s+(\d+) kB", status.read(), re.M).group(1)) / 1024


def collate(documents):
    lengths = [len(d["ids"]) for d in documents]
    longest = max(lengths)
    ids = torch.zeros(len(documents), longest, dtype=torch.long)
    labels = torch.full((len(documents), longest), -100)
    mask = torch.zeros(len(documents), longest, dtype=torch.long)
    for row, (document, length) in enumerate(zip(documents, lengths)):
        ids[row, :length] = torch.tensor(document["ids"])
        labels[row, :length] = torch.tensor(document["labels"])
        mask[row, :length] = 1
    batch = {"input_ids": ids, "labels": labels}
    return batch, mask, sum(lengths)


def count_labels(batch):
    """Positions that predict a label."""
    return int((batch["labels"][:, 1:] != -100).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload")
    parser.add_argument("precision", choices=["fp32", "bf16"])
    parser.add_argument("threads", type=int)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--liger", action="store_true")
    parser.add_argument("--losses", metavar="MODEL")
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} has no card here")
    with open(arguments.workload) as file:
        workload = json.load(file)

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if arguments.liger:
        from importlib.metadata import version

        from liger_kernel.transformers import apply_liger_kernel_to_llama

        apply_liger_kernel_to_llama()
        versions["liger-kernel"] = version("liger-kernel")
    if arguments.losses:
        model = LlamaForCausalLM.from_pretrained(
            arguments.losses, attn_implementation="sdpa", dtype=torch.float32, use_cache=False
        ).to(device)
    else:
        config = LlamaConfig(**workload["config"], attn_implementation="sdpa", use_cache=False)
        with torch.device(device):
            model = LlamaForCausalLM(config)
    model.train()
    settings = workload["optimizer"]
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings["learning_rate"],
        betas=(settings["adam_beta1"], settings["adam_beta2"]),
        eps=settings["adam_epsilon"],
        weight_decay=settings["weight_decay"],
        fused=True,
    )
    forward = torch.compile(model) if arguments.compile else model

    size = workload["documentsPerBatch"]
    collated = [
        [collate(documents[i : i + size]) for i in range(0, len(documents), size)] for documents in workload["steps"]
    ]
    # One choice for the whole run, so that a compiled model sees one kind of call.
    padded = any(not mask.all() for batches in collated for _, mask, _ in batches)
    steps = []
    for batches in collated:
        labels = sum(count_labels(batch) for batch, _, _ in batches)
        step = []
        for batch, mask, tokens in batches:
            if padded:
                batch["attention_mask"] = mask
            share = count_labels(batch) / labels
            step.append(({key: value.to(device) for key, value in batch.items()}, tokens, share))
        steps.append(step)
    done = 0

    def step():
        """Tokens, and the loss as a tensor: on a card nobody waits for it here."""
        nonlocal done
        batches = steps[done % len(steps)]
        done += 1
        total, tokens = 0.0, 0
        for batch, batch_tokens, share in batches:
            with torch.autocast(device, torch.bfloat16, enabled=arguments.precision == "bf16"):
                loss = forward(**batch).loss * share
            loss.backward()
            total = total + loss.detach()
            tokens += batch_tokens
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return tokens, total

    def timed_round():
        seconds, tokens, loss = [], 0, 0.0
        begun = time.perf_counter()
        for _ in range(workload["stepsPerRound"]):
            start = time.perf_counter()
            step_tokens, loss = step()
            if device == "cpu":
                loss = loss.item()
            seconds.append(time.perf_counter() - start)
            tokens += step_tokens
        loss = float(loss)
        if device == "cuda":
            torch.cuda.synchronize()
            seconds = [(time.perf_counter() - begun) / len(seconds)] * len(seconds)
        return {
            "tokens": tokens,
            "tok_s": tokens / sum(seconds),
            "median_step_ms": statistics.median(seconds) * 1000,
            "peak_rss_mib": peak_rss_mib(),
            "device_mib": torch.cuda.max_memory_reserved() / 2**20 if device == "cuda" else None,
            "loss": loss,
        }

    if arguments.losses:
        print(json.dumps({"losses": [step()[1].item() for _ in steps], "versions": versions}), flush=True)
        return
    first_loss = step()[1].item()
    for _ in range(1, workload["warmupSteps"]):
        step()
    print(
        json.dumps(
            {
                "parameters": sum(p.numel() for p in model.parameters()),
                "first_loss": first_loss,
                "threads": torch.get_num_threads(),
                "versions": versions,
            }
        ),
        flush=True,
    )
    for _ in sys.stdin:
        print(json.dumps(timed_round()), flush=True)


main()
