# To be sourced: sees to it that the build finds nvcc 13.0. What NVCC, CUDA_HOME or PATH name is taken, else PyPI's, which is
# installed below the target directory.
if [[ -z ${NVCC:-}${CUDA_HOME:-} ]] && ! command -v nvcc >/dev/null; then
  nvcc_home=${CARGO_TARGET_DIR:-target}/nvcc
  nvcc_packages=(nvcc==13.0.88 crt==13.0.88 cccl==13.0.85 runtime==13.0.96)
  python3 -m venv "$nvcc_home"
  "$nvcc_home/bin/pip" install --quiet nvidia-nvvm==13.0.88 "${nvcc_packages[@]/#/nvidia-cuda-}"
  CUDA_HOME=$(cd "$nvcc_home"/lib/python*/site-packages/nvidia/cu13 && pwd)
  export CUDA_HOME
fi
