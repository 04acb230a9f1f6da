"""Every field of a configuration, with its meaning and its default.

The default of a field is what a program without the field did: terms are off,
ratios are zero, nothing is cached. Configurations in `configs/` say what is on.
A run that was started before a field existed takes the default
(`saved.complete`), so a new field must be declared here before it is read.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def transformer(
  width: int, depth: int, num_heads: int, mlp_dim: int
) -> ConfigDict:
  """Shape of a stack of transformer blocks."""
  return ConfigDict(
    dict(width=width, depth=depth, num_heads=num_heads, mlp_dim=mlp_dim)
  )


def pretraining() -> ConfigDict:
  """Declares all fields of a pretraining; they are not locked yet."""
  c = ConfigDict()
  c.task = "pretrain"
  c.recipe = ""  # one of `presets.RECIPES`
  c.seed = 0  # of initial parameters, order of records, and masks
  c.mesh = (-1, 1, 1)  # devices along data, fsdp and tensor; -1: the rest
  c.init_from = ""  # run, checkpoint, export or shipped model to start from
  c.init_parts = ()  # modules of it, such as ecg_encoder; none: all that fit
  _declare_data(c)
  _declare_model(c)
  _declare_objective(c)
  _declare_training(c)
  c.evaluation = evaluation("", ())
  return c


def _declare_data(c: ConfigDict) -> None:
  c.data = dict(
    dataset="",  # name with configuration, such as synthetic_ecg/demo
    train="train",  # split
    validation="validation",  # split
    vocab_size=0,  # of a tokenizer that is learnt from the reports
    statements=(0,),  # how many are read, drawn from these; 0: all
    num_workers=0,  # reading processes; 0: threads of the main one
  )
  c.preprocess = dict(
    sampling_rate=100,  # Hz
    bandpass=(0.0, 0.0),  # corners of the filter in Hz; 0: none
    normalise="fixed",  # see `data/preprocessing.py`
    scale=1.0,  # mV that become 1, for `fixed`
    clip=20.0,  # largest value after normalisation
  )
  # What is drawn for each record of a training step; see
  # `data/augmentation.py`.
  c.augment = dict(
    gain=0.0,  # standard deviation of its logarithm, of whole records
    lead_gain=0.0,  # the same, of single leads
    rotation=0.0,  # standard deviation of each angle of the heart, degrees
    noise=0.0,  # mean level of white noise, mV
    lowpass=(0.0, 0.0),  # corner of a filter in Hz, drawn between; 0: none
  )


def _declare_model(c: ConfigDict) -> None:
  c.model = dict(
    patch_length=0,  # samples
    ecg_target="patch",  # of the ECG decoder, see `preprocessing.target`
    specific=False,  # whether there are modality-specific encoders
    ecg=transformer(0, 0, 0, 0),
    report=transformer(0, 0, 0, 0),
    disentangle=transformer(0, 0, 0, 0),
    ecg_decoder=transformer(0, 0, 0, 0),
  )
  # (features, kernel, stride) of convolutions in each patch; none: linear.
  c.model.ecg.stem = ()
  c.model.ecg.stem_pool = False  # whether their mean and largest values count
  c.model.report.update(
    num_positions=0,  # most tokens of a report
    vocab_size=0,  # 0: that of the tokenizer
    type_vocab_size=2,
    epsilon=1e-12,
  )
  c.report = dict(
    checkpoint="",  # BERT, which decides model.report; "": from scratch
    max_length=0,  # most tokens that are read of a report
    train="full",  # or frozen, or the last blocks: last_1, last_2, ...
    lr=0.0,  # 0: like the rest of the model
    layer_decay=1.0,  # of lr, for each block from above
    normalise=False,  # whether trivial differences are ignored
    device_cache_mib=0,  # for frozen outputs on each device, or disk
  )


def _declare_objective(c: ConfigDict) -> None:
  c.mask = dict(
    kind="none",  # see `models/masking.py`
    lead_ratio=0.0,  # share of the leads that are hidden whole
    time_ratio=0.0,  # share of the patches of a lead that are hidden
    whole_ratio=0.0,  # share of records (and reports) seen whole; quarters
    token_ratio=0.0,  # share of the words of a report that are masked
  )
  # What alignment and disentanglement see; full costs a second pass.
  c.align_view = "masked"
  c.loss = dict(
    ecg=0.0,  # weight of the reconstruction of hidden patches
    mlm=0.0,  # weight of the prediction of masked words
    align=0.0,  # weight of the alignment of ECG and report
    disentangle=0.0,  # weight of the dependence of the parts on each other
    disentangle_form="cross_correlation",  # or hsic, club
    alignment="infonce",  # or sigmoid
    positives="report",  # or statement: what makes reports alike
    ring=False,  # alignment in blocks, for batches of thousands
  )


def _declare_training(c: ConfigDict) -> None:
  c.compute = dict(
    dtype="float32",  # of activations; or bfloat16
    attention="xla",  # or packed, cudnn
    scan=False,  # one compiled block for a whole stack
    remat="none",  # or dots, full: what is computed again
  )
  c.optim = dict(
    lr=0.0,  # of AdamW
    muon_lr=0.0,  # of Muon, for matrices; 0: AdamW for everything
    b1=0.9,
    b2=0.999,
    weight_decay=0.0,
    clip_norm=1.0,
    warmup_ratio=0.0,  # share of the steps, below 1
    final_ratio=0.0,  # last learning rate as a share of the largest
  )
  c.train = dict(
    batch_size=0,
    microbatches=1,  # parts of a batch that are encoded one after the other
    steps=0,
    log_every=1,
    validate_every=1,
    checkpoint_every=1,
    keep_checkpoints=1,
  )


def evaluation(datasets: str, tasks: tuple[str, ...]) -> ConfigDict:
  """All fields of an evaluation, with the protocol of published benchmarks.

  Data sets of the demonstration (`synthetic_ecg/...`) have a shorter protocol,
  the same wherever they are evaluated. The names of splits and `max_train`
  decide every result, the other fields those of the tasks that declare them
  (`evaluators/task.py`).

  Args:
    datasets: names, separated by commas; empty: all that are built.
    tasks: names; ("all",): every task; empty: nothing is evaluated.
  """
  c = ConfigDict(
    dict(
      datasets=datasets,
      train="train",  # split with the labels of probes
      validation="validation",  # split: regularisation, early stopping
      test="test",  # split
      max_train=0,  # first records of `train` that are used; 0: all
      tasks=tasks,
      label_sets=(),  # by name; none: what each task is made for
      representation="both",  # of probes: shared, specific, both, per_lead, or
      # several, such as both,per_lead: the first is that of tasks with one
      batch_size=64,  # of feature extraction
      fractions=(0.01, 0.1, 1.0),  # of the training labels
      seeds=5,  # subsets of each fraction below 1
      min_positives=10,  # labels with fewer in test are reported as skipped
      num_bootstrap=1000,  # resamples of patients; least number of swaps
      prompts="",  # JSON file with sentences of each label; empty: ours
      finetune=dict(  # see `evaluators/tasks/finetune.py`
        fractions=(0.1, 1.0),
        epochs=20,
        patience=3,
        batch_size=64,
        lr=1e-3,
        weight_decay=0.05,
      ),
    )
  )
  if datasets.startswith("synthetic_ecg/"):
    c.update(max_train=5000, seeds=3, num_bootstrap=500)
    c.batch_size = 16  # stays in the caches of a CPU
  return c
