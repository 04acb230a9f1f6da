"""Test session: 4 fake CPU devices and the folder of real recordings."""

import os
import pathlib

# XLA:CPU sizes its thread pool by NPROC (else by the core count). Collectives
# over fake devices deadlock when the pool is smaller than the devices need.
os.environ.setdefault("NPROC", "16")
# Toy models spend their time in LLVM; numbers do not depend on it.
os.environ.setdefault(
  "XLA_FLAGS",
  "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
  " --xla_cpu_use_fusion_emitters=false",
)
# Many tests and processes compile the same step; the first leaves it to all.
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR",
  str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import pytest
from absl import flags, logging
from jaxtyping import install_import_hook

import tests.typed  # noqa: F401

# Annotations run: shapes and types of every call are checked.
install_import_hook("cgdmer_jax", "tests.typed.checked")

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
  del config
  flags.FLAGS.mark_as_parsed()  # grain reads absl flags


@pytest.fixture
def strict_promotion():
  """Types are never mixed; not for whole steps, in which optax mixes them."""
  with jax.numpy_dtype_promotion("strict"):
    yield


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
  """Folder of real recordings; skipped without it, unless CI demands it."""
  root = pathlib.Path(__file__).parents[1]
  path = pathlib.Path(os.environ.get("CGDMER_REAL_DATA", "../shared/data"))
  path = path if path.is_absolute() else root / path
  if not path.is_dir():
    message = f"no real recordings at {path}; set CGDMER_REAL_DATA"
    if os.environ.get("CGDMER_REQUIRE_REAL_DATA"):
      pytest.fail(message)
    pytest.skip(message)
  return path


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> pathlib.Path:
  """Folder with the built data set `synthetic_ecg/tiny`; not to be changed."""
  from data_builders import build  # not before the import hook

  path = tmp_path_factory.mktemp("tiny")
  build.build("synthetic_ecg/tiny", data_dir=path)
  return path


@pytest.fixture(autouse=True)
def verbosity():
  """Commands that were called in a test leave no log level behind."""
  before = logging.get_verbosity()
  yield
  logging.set_verbosity(before)
