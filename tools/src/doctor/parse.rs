//! Texts of `/proc` and `/sys`, taken apart. Pure functions: no file is opened here.
//!
//! Invariant: whatever the text, nothing panics; what cannot be understood is not there.

/// Returns major and minor of a kernel's release such as `6.18.44-cloud`.
pub(crate) fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

/// Returns what is chosen of a list such as `none [mq-deadline] kyber`; a text without brackets is itself the choice.
pub(crate) fn chosen(text: &str) -> &str {
    let inside = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(text.trim(), |(word, _)| word)
}

/// Returns soft and hard limit of `name` in `/proc/self/limits`; `u64::MAX` is no limit.
pub(crate) fn limit(text: &str, name: &str) -> Option<(u64, u64)> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = |word: &str| match word {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    };
    let mut words = rest.split_whitespace();
    Some((number(words.next()?)?, number(words.next()?)?))
}

/// Returns the value of a line `name:  value` of `/proc/self/status`.
pub(crate) fn status<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    text.lines().find_map(value).map(str::trim)
}

/// Returns the CPUs of a list such as `0-3,6`, in order.
pub(crate) fn cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // As many as no machine has: the text is something else.
        if last >= 1 << 16 {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Major and minor number of its device, with a colon.
    pub(crate) device: String,
    /// Where it is mounted.
    pub(crate) point: String,
    /// Type of the file system.
    pub(crate) kind: String,
    /// What is mounted; often a path below `/dev`.
    pub(crate) source: String,
}

/// Returns the mount that holds `path`, which is absolute and without links: the longest, and of several the last.
pub(crate) fn mount_of(mountinfo: &str, path: &str) -> Option<Mount> {
    let holds = |mount: &Mount| {
        let point = mount.point.trim_end_matches('/');
        let rest = path.strip_prefix(point);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mounts = mountinfo.lines().filter_map(mount).filter(holds);
    mounts.max_by_key(|mount| mount.point.len())
}

fn mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<&str> = front.split(' ').collect();
    let mut back = back.split(' ');
    Some(Mount {
        device: (*front.get(2)?).to_owned(),
        point: unescaped(front.get(4)?),
        kind: back.next()?.to_owned(),
        source: unescaped(back.next()?),
    })
}

/// Returns a word of `/proc` with its octal escapes (`\040` for a space) undone.
fn unescaped(word: &str) -> String {
    let mut parts = word.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..3).and_then(|o| u8::from_str_radix(o, 8).ok());
        match byte {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                out += &part[3..];
            }
            _ => {
                out.push('\\');
                out += part;
            }
        }
    }
    out
}

/// An interrupt of `/proc/interrupts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interrupt {
    /// Its number, as below `/proc/irq`.
    pub(crate) number: u32,
    /// How often it came, on all CPUs.
    pub(crate) count: u64,
    /// Who it is for: the last word.
    pub(crate) name: String,
}

/// Returns the numbered interrupts of `/proc/interrupts`.
pub(crate) fn interrupts(text: &str) -> Vec<Interrupt> {
    let cpus = text
        .lines()
        .next()
        .map_or(0, |line| line.split_whitespace().count());
    let interrupt = |line: &str| {
        let (number, rest) = line.split_once(':')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let counts = words
            .get(..cpus)?
            .iter()
            .map(|word| word.parse::<u64>().ok());
        Some(Interrupt {
            number: number.trim().parse().ok()?,
            count: counts.sum::<Option<u64>>()?,
            name: (*words.get(cpus..)?.last()?).to_owned(),
        })
    };
    text.lines().skip(1).filter_map(interrupt).collect()
}

/// Returns how many swap areas `/proc/swaps` lists, and their KiB.
pub(crate) fn swaps(text: &str) -> (usize, u64) {
    let sizes = text.lines().skip(1).filter_map(|line| {
        let size = line.split_whitespace().nth(2)?;
        size.parse::<u64>().ok()
    });
    sizes.fold((0, 0), |(count, kib), size| (count + 1, kib + size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_two_numbers() {
        assert_eq!(release("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(release("6.1-rc3"), Some((6, 1)));
        assert_eq!(release("5.10.0-30-amd64"), Some((5, 10)));
        assert_eq!(release(""), None);
        assert_eq!(release("six.one"), None);
    }

    #[test]
    fn the_choice_stands_in_brackets() {
        assert_eq!(chosen("none [mq-deadline] kyber bfq\n"), "mq-deadline");
        assert_eq!(chosen("always madvise [never]"), "never");
        assert_eq!(chosen("none\n"), "none");
        assert_eq!(chosen(""), "");
        assert_eq!(chosen("[broken"), "[broken");
    }

    #[test]
    fn limits_are_found_by_name() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         8388608              unlimited            bytes     \n";
        assert_eq!(limit(text, "Max open files"), Some((1024, 524_288)));
        assert_eq!(limit(text, "Max locked memory"), Some((8 << 20, u64::MAX)));
        assert_eq!(limit(text, "Max nothing"), None);
        assert_eq!(limit("Max open files x", "Max open files"), None);
    }

    #[test]
    fn status_lines_are_found_by_whole_name() {
        let text = "Seccomp:\t2\nSeccomp_filters:\t1\nCapEff:\t000001ffffffffff\n";
        assert_eq!(status(text, "Seccomp"), Some("2"));
        assert_eq!(status(text, "Seccomp_filters"), Some("1"));
        assert_eq!(status(text, "Cap"), None);
    }

    #[test]
    fn lists_of_cpus_are_expanded() {
        assert_eq!(cpu_list("0-2,6\n"), Some(vec![0, 1, 2, 6]));
        assert_eq!(cpu_list("3,1-3"), Some(vec![1, 2, 3]));
        assert_eq!(cpu_list(""), Some(vec![]));
        for wrong in ["a", "1-", "-1", "0-4294967295"] {
            assert_eq!(cpu_list(wrong), None, "{wrong}");
        }
    }

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
30 22 0:25 / /tmp rw shared:5 master:1 - tmpfs tmpfs rw\n\
31 22 259:3 / /srv/my\\040data rw - xfs /dev/nvme0n1p1 rw\n\
32 22 259:4 / /srv/my rw - xfs /dev/nvme0n1p2 rw\n\
33 22 0:77 / /srv/my rw - nfs4 host:/export rw\n\
broken line\n";

    #[test]
    fn the_longest_and_last_mount_holds_a_path() {
        let kind = |path| mount_of(MOUNTS, path).map(|mount| (mount.kind, mount.device));
        let is = |kind: &str, device: &str| Some((kind.to_owned(), device.to_owned()));
        assert_eq!(kind("/"), is("ext4", "254:0"));
        assert_eq!(kind("/tmpfoo"), is("ext4", "254:0"));
        assert_eq!(kind("/tmp/x"), is("tmpfs", "0:25"));
        assert_eq!(kind("/srv/my data/a"), is("xfs", "259:3"));
        assert_eq!(kind("/srv/my/a"), is("nfs4", "0:77"));
        assert_eq!(mount_of("", "/"), None);
    }

    #[test]
    fn interrupts_have_counts_and_names() {
        let text = "           CPU0       CPU1       \n\
 24:          1          0  IO-APIC   5-edge      ACPI:Ged\n\
 36:          7   35828921 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0\n\
NMI:          0          0   Non-maskable interrupts\n\
ERR:          0\n";
        let is = |number, count, name: &str| Interrupt {
            number,
            count,
            name: name.to_owned(),
        };
        assert_eq!(
            interrupts(text),
            [is(24, 1, "ACPI:Ged"), is(36, 35_828_928, "virtio1-req.0")]
        );
        assert_eq!(interrupts(""), []);
        assert_eq!(interrupts("CPU0\n 1: x name\n 2:\n"), []);
    }

    #[test]
    fn swap_areas_are_added_up() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                    /dev/sda2                               partition\t1000\t\t0\t\t-2\n\
                    /swap                                   file\t\t24\t\t0\t\t-3\n";
        assert_eq!(swaps(text), (2, 1024));
        assert_eq!(swaps("Filename Type Size Used Priority\n"), (0, 0));
    }
}
