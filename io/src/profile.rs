//! Where the threads of this process spend their processor time: stacks, sampled by a timer. A signal (`SIGPROF`)
//! interrupts whichever thread is running each time the process has run for long enough; so a thread that sleeps is
//! not in a profile, and is not disturbed. Operations of a ring that the signal interrupts are tried again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pprof::{Frames, ProfilerGuardBuilder, Report};

/// One stack, the outermost function first, and how often it was met.
pub type Folded = (Vec<String>, u64);

/// What the handler of the signal is called, in which stacks end.
const HANDLER: &str = "perf_signal_handler";
/// Directories of packages that are ours.
const OWN_PACKAGES: [&str; 4] = ["io", "node", "partition", "consensus"];
/// How the functions of this program begin, and those that are monomorphs of its types.
const OURS: [&str; 2] = ["ashlar", "<ashlar"];

/// Samples the threads whose names begin with `threads`, for as long, at so many samples in each second of processor
/// time; the thread that calls sleeps meanwhile. Returns the stacks in order.
///
/// # Errors
/// The sampler cannot start, because another one runs or the system refuses, or its samples cannot be read.
pub fn sample(threads: &str, duration: Duration, hz: u32) -> Result<Vec<Folded>, String> {
    let hz = i32::try_from(hz).map_err(|error| error.to_string())?;
    let guard = ProfilerGuardBuilder::default().frequency(hz).build();
    let guard = guard.map_err(|error| format!("the sampler does not start: {error}"))?;
    std::thread::sleep(duration);
    let report = guard.report().build();
    let report = report.map_err(|error| format!("the samples cannot be read: {error}"))?;
    Ok(folded(&report, threads))
}

fn folded(report: &Report, threads: &str) -> Vec<Folded> {
    let mut stacks: BTreeMap<Vec<String>, u64> = BTreeMap::new();
    for (frames, count) in &report.data {
        if frames.thread_name.starts_with(threads) {
            let count = u64::try_from(*count).unwrap_or(0);
            *stacks.entry(stack_of(frames)).or_default() += count;
        }
    }
    stacks.into_iter().collect()
}

/// Returns the functions of a stack, the outermost first, beneath the thread's name.
fn stack_of(frames: &Frames) -> Vec<String> {
    let symbols = frames.frames.iter().flatten();
    let inward = symbols.map(|symbol| qualified(&symbol.name(), symbol.filename.as_deref()));
    let inward = inward.collect();
    let mut stack = vec![frames.thread_name.clone()];
    stack.extend(trimmed(inward));
    stack
}

/// Turns a stack around, and leaves out what is the same in all of them: the handler that took it, and how a thread
/// begins.
fn trimmed(mut inward: Vec<String>) -> Vec<String> {
    if let Some(handler) = inward.iter().rposition(|name| name.contains(HANDLER)) {
        inward.drain(..=handler);
    }
    inward.retain(|name| name != "__restore_rt");
    let is_ours = |name: &String| OURS.iter().any(|begin| name.starts_with(begin));
    let outermost = inward.iter().rposition(is_ours);
    inward.truncate(outermost.map_or(inward.len(), |place| place + 1));
    inward.reverse();
    inward
}

/// Returns a function's name with the module that it is in. One that was inlined is known to the tables of lines by its
/// last name alone, and by its file: that tells the module.
fn qualified(name: &str, file: Option<&Path>) -> String {
    let name = without_hash(name);
    if name.starts_with('<') {
        return name;
    }
    let name = without_generics(&name);
    let module = file.and_then(module_of).filter(|_| !name.contains("::"));
    module.map_or(name.clone(), |module| format!("{module}::{name}"))
}

/// Returns the path of the module that a file of source text holds, as far as files tell it.
fn module_of(file: &Path) -> Option<String> {
    let (before, within) = file.to_str()?.rsplit_once("/src/")?;
    let package = before.rsplit('/').next()?;
    let package = match package.rsplit_once('-') {
        Some((package, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => package,
        _ => package,
    };
    let crate_name = match OWN_PACKAGES.contains(&package) {
        true => format!("ashlar_{package}"),
        false => package.replace('-', "_"),
    };
    let within = within.strip_suffix(".rs")?.split('/');
    let within = within.filter(|part| !["lib", "main", "mod"].contains(part));
    Some(within.fold(crate_name, |path, part| path + "::" + part))
}

/// Returns a name without what stands in angle brackets.
fn without_generics(name: &str) -> String {
    let mut depth = 0_u32;
    let mut before = ' ';
    let mut kept = String::new();
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            // The arrow of a function's type closes nothing.
            '>' if before != '-' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(c),
            _ => {}
        }
        before = c;
    }
    kept.replace("::::", "::").trim_end_matches("::").to_owned()
}

/// Returns a function's name without the hash that the compiler puts behind it.
fn without_hash(name: &str) -> String {
    let is_hash = |tail: &str| {
        tail.len() == 17
            && tail.starts_with('h')
            && tail[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match name.rsplit_once("::") {
        Some((head, tail)) if is_hash(tail) => head.to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_told_from_where_the_program_begins_to_where_it_was_met() {
        let inward = [
            "backtrace::trace",
            "pprof::profiler::perf_signal_handler::h0123456789abcdef",
            "__restore_rt",
            "memcpy",
            "ashlar_io::wal::Wal::append",
            "<ashlar_node::Boot as Run>::run",
            "std::rt::lang_start",
            "__clone3",
        ];
        let told = trimmed(inward.map(str::to_owned).to_vec());
        let wanted = [
            "<ashlar_node::Boot as Run>::run",
            "ashlar_io::wal::Wal::append",
            "memcpy",
        ];
        assert_eq!(told, wanted);
        assert_eq!(trimmed(vec!["memcpy".to_owned()]), ["memcpy"]);
    }

    #[test]
    fn a_name_tells_its_module() {
        for (name, file, told) in [
            (
                "ashlar_io::wal::Wal::append::h0123456789abcdef",
                None,
                "ashlar_io::wal::Wal::append",
            ),
            (
                "park<ashlar_node::shard::{impl#1}::park::{closure_env#3}>",
                Some("/home/a/node/src/shard.rs"),
                "ashlar_node::shard::park",
            ),
            (
                "drain",
                Some("/home/a/node/src/core/mod.rs"),
                "ashlar_node::core::drain",
            ),
            (
                "enter<libc::sigset_t>",
                Some("/r/src/index-1/io-uring-0.7.15/src/submit.rs"),
                "io_uring::submit::enter",
            ),
            (
                "call_once<fn(u8) -> u8, (u8)>",
                Some("/rustc/0/library/core/src/ops/function.rs"),
                "core::ops::function::call_once",
            ),
            (
                "alloc::vec::Vec<T>::push",
                Some("/rustc/0/library/alloc/src/vec/mod.rs"),
                "alloc::vec::Vec::push",
            ),
            ("<T as U>::run", Some("/a/io/src/lib.rs"), "<T as U>::run"),
            ("memcpy", None, "memcpy"),
        ] {
            assert_eq!(qualified(name, file.map(Path::new)), told);
        }
    }

    /// Keeps a processor busy until somebody says that it is enough.
    #[inline(never)]
    fn toil(enough: &std::sync::atomic::AtomicBool) -> u64 {
        let mut sum = 1_u64;
        while !enough.load(std::sync::atomic::Ordering::Relaxed) {
            sum = std::hint::black_box(sum.wrapping_mul(31));
        }
        sum
    }

    #[test]
    fn a_busy_thread_is_met_by_its_name_and_no_other() {
        let enough = std::sync::atomic::AtomicBool::new(false);
        let stacks = std::thread::scope(|scope| {
            for name in ["toiler-1", "other"] {
                let busy = std::thread::Builder::new().name(name.to_owned());
                busy.spawn_scoped(scope, || toil(&enough)).unwrap();
            }
            let stacks = sample("toiler", Duration::from_millis(500), 500);
            enough.store(true, std::sync::atomic::Ordering::Relaxed);
            stacks.unwrap()
        });
        assert!(!stacks.is_empty());
        assert!(stacks.iter().all(|(stack, _)| stack[0] == "toiler-1"));
        let is_toil = |name: &String| name.contains("toil") && name.contains("ashlar_io");
        assert!(stacks.iter().any(|(stack, _)| stack.iter().any(is_toil)));
    }
}
