# What the launchers share. They read it from the folder that they are in; not
# so slurm.sbatch, since Slurm runs a copy of that script elsewhere.
# shellcheck shell=bash

fail() { # a mistake of the user: one line, status 2
  echo "error: $1" >&2
  exit 2
}

tell() { # prints the head of the script, if its first argument asks for it
  case ${1:-} in
    -h | --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
      exit 0
      ;;
  esac
}

need() { # need NAMES...: variables that must be set
  local name
  for name; do
    [[ -n ${!name:-} ]] || fail "set $name; see the head of launch/${0##*/}"
  done
}

show() { # prints a command so that it can be pasted
  local word line=
  for word; do
    [[ $word =~ ^[a-zA-Z0-9_@%+=:,./-]+$ ]] || word=${word@Q}
    line+="$word "
  done
  echo "${line% }"
}

call() { # runs a command; with --dry-run, only shows it
  if [[ -n $dry_run ]]; then
    show "$@"
  else
    "$@"
  fi
}
