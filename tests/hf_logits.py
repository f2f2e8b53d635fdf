"""Logits by Hugging Face transformers, to compare ours with. For development only.

    python tests/hf_logits.py MODEL_DIR IDS OUT

IDS is a JSON list of token ids; OUT becomes their logits as float32, little-endian, [ids, vocabulary].
Needs torch and transformers. Everything is computed in float32.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM

directory, ids, out = sys.argv[1:]
torch.set_num_threads(1)
model, report = AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32, local_files_only=True, output_loading_info=True
)
for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
    if report.get(kind):
        sys.exit(f"{directory}: {kind}: {sorted(report[kind])}")
with torch.no_grad():
    logits = model.eval()(torch.tensor([json.loads(ids)])).logits[0]
logits.numpy().astype("<f4").tofile(out)
