//! What the daemon can no longer do, whoever it is: landlock (files) and seccomp (system calls).

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads};
use std::path::PathBuf;

/// What resolver, TLS and user database read besides. /etc as a whole: its files are replaced by rename, and
/// landlock would hold on to the old inode; what is secret there is so by its mode.
const SYSTEM: &[&str] =
    &["/etc", "/run/systemd/resolve", "/run/resolvconf", "/usr/share/zoneinfo", "/usr/share/ca-certificates", "/usr/lib", "/lib", "/proc/self"];

/// Restricts the calling thread and those it starts later. `Err`: in words, why there is no landlock.
pub(super) fn landlock(read: &[PathBuf], write: &[PathBuf]) -> Result<&'static str, String> {
    for path in write {
        PathFd::new(path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    match restrict(read, write) {
        Ok(RulesetStatus::FullyEnforced) => Ok("full"),
        Ok(RulesetStatus::PartiallyEnforced) => Ok("partial"),
        Ok(RulesetStatus::NotEnforced) => Err("this kernel does not offer it".into()),
        Err(e) => Err(format!("this kernel does not offer it: {e}")),
    }
}

fn restrict(read: &[PathBuf], write: &[PathBuf]) -> Result<RulesetStatus, RulesetError> {
    let look: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let change = look
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock
        | AccessFs::MakeSym
        | AccessFs::Refer;
    let files = |paths: &[PathBuf]| paths.iter().flat_map(|p| [Some(p.clone()), p.canonicalize().ok()]).flatten().collect::<Vec<_>>();
    let status = Ruleset::default()
        // Without it (before Linux 5.19) every rename between folders fails, and with it every delivery.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, look))?
        .add_rules(path_beneath_rules(files(read), look))?
        .add_rules(path_beneath_rules(["/dev/null"], look | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(write, change))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// No program of ours, no debugging, no mounts, no modules, no clocks, no io_uring (it goes around filters).
const DENIED: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_vhangup,
];

/// The denied calls fail with EPERM, in all threads. `Err`: in words, why there is no filter.
pub(super) fn seccomp() -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| format!("no filter for {}", std::env::consts::ARCH))?;
    // c_long and i64 differ on 32-bit machines, which the line above turned away.
    #[allow(clippy::useless_conversion)]
    let rules = DENIED.iter().map(|call| (i64::from(*call), vec![])).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32), arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|e| e.to_string())?;
    apply_filter_all_threads(&program).map_err(|e| e.to_string())
}
