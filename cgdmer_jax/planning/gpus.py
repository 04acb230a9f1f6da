"""Descriptions of GPUs that XLA compiles for without having one.

Fields and units are those of its `GpuTargetConfigProto`; numbers from NVIDIA's
data sheets and its tables of compute capabilities.
"""

from __future__ import annotations

# Name -> what differs: capability, cores, arithmetic units of a core, shared
# memory of a core and of a block, bytes/s, cache, GHz, bytes, full name.
_GPUS = {
  "a100": (
    *((8, 0), 108, 64, 167936, 166912, 2039 * 10**9, 41943040, 1.41),
    *(85_097_971_712, "NVIDIA A100-SXM4-80GB"),
  ),
  "h100": (
    *((9, 0), 132, 128, 233472, 232448, 3352 * 10**9, 52428800, 1.98),
    *(84_929_347_584, "NVIDIA H100 80GB HBM3"),
  ),
}


def describe(name: str) -> str:
  """Describes a GPU to XLA; `name` is that of the chip."""
  (
    *((major, minor), cores, units, of_core, of_block, bandwidth, cache),
    *(clock, memory, title),
  ) = _GPUS[name]
  return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {of_core}
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: {units}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: {cache}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  shared_memory_per_block_optin: {of_block}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "{title}"
"""
