//! The checks of file system and disk against machines made of files, and against this one.

use super::super::fixture::Fixture;
use super::*;
use ashlar_io::Settings;

fn place(kind: &str) -> Place {
    let mount = Mount {
        device: "8:1".to_owned(),
        point: "/srv".to_owned(),
        kind: kind.to_owned(),
        source: "/dev/sda1".to_owned(),
    };
    Place {
        dir: PathBuf::from("/srv"),
        mount: Some(mount),
        disks: Vec::new(),
    }
}

#[test]
fn file_systems_that_promise_less_are_named() {
    for (kind, part) in [
        ("tmpfs", "lost with the machine"),
        ("overlay", "lost with the container"),
        ("nfs4", "network"),
        ("fuse.sshfs", "network"),
        ("btrfs", "new place"),
        ("vfat", "nobody tried"),
    ] {
        let finding = file_system(&place(kind));
        assert!(
            finding.verdict == Verdict::Warn && finding.found.contains(part),
            "{finding:?}"
        );
    }
    assert_eq!(file_system(&place("ext4")).verdict, Verdict::Ok);
}

/// A machine with a partition on NVMe, and a volume over two virtual disks.
fn disks() -> Fixture {
    let fixture = Fixture::new(&[
        (
            "/sys/devices/pci0/nvme/nvme0/nvme0n1/nvme0n1p1/partition",
            "1",
        ),
        ("/sys/devices/virtual/block/dm-0/slaves/none", ""),
        ("/sys/devices/pci0/virtio1/block/vda/size", "1"),
        ("/sys/devices/pci0/virtio2/block/vdb/vdb1/partition", "1"),
    ]);
    fixture.link(
        "/sys/dev/block/259:1",
        "/sys/devices/pci0/nvme/nvme0/nvme0n1/nvme0n1p1",
    );
    fixture.link("/sys/dev/block/253:0", "/sys/devices/virtual/block/dm-0");
    std::fs::remove_file(
        fixture
            .machine
            .path("/sys/devices/virtual/block/dm-0/slaves/none"),
    )
    .unwrap();
    fixture.link(
        "/sys/devices/virtual/block/dm-0/slaves/vda",
        "/sys/devices/pci0/virtio1/block/vda",
    );
    fixture.link(
        "/sys/devices/virtual/block/dm-0/slaves/vdb1",
        "/sys/devices/pci0/virtio2/block/vdb/vdb1",
    );
    fixture.link(
        "/sys/class/block/vda",
        "/sys/devices/pci0/virtio1/block/vda",
    );
    fixture
}

#[test]
fn partitions_and_volumes_lead_to_whole_disks() {
    let fixture = disks();
    let of = |device: &str, source: &str| {
        fixture.machine.disks(&Mount {
            device: device.to_owned(),
            source: source.to_owned(),
            ..place("ext4").mount.unwrap()
        })
    };
    assert_eq!(of("259:1", "/dev/nvme0n1p1"), ["nvme0n1"]);
    assert_eq!(of("253:0", "/dev/mapper/vg-data"), ["vda", "vdb"]);
    assert_eq!(
        of("0:55", "/dev/vda"),
        ["vda"],
        "a file system with a number of its own"
    );
    assert_eq!(of("0:25", "tmpfs"), Vec::<String>::new());
    assert_eq!(
        fixture.machine.interrupt_name("nvme0n1").as_deref(),
        Some("nvme0q")
    );
    assert_eq!(
        fixture.machine.interrupt_name("vda").as_deref(),
        Some("virtio1-")
    );
    assert_eq!(fixture.machine.interrupt_name("sda"), None);
}

#[test]
fn the_settings_of_a_disk_are_judged() {
    let queue = "/sys/block/nvme0n1/queue";
    let fixture = Fixture::new(&[]);
    let put = |name: &str, text: &str| fixture.put(&format!("{queue}/{name}"), text);
    put("scheduler", "none [mq-deadline] kyber\n");
    put("rotational", "0\n");
    put("write_cache", "write back\n");
    put("fua", "1\n");
    put("logical_block_size", "512\n");
    put("physical_block_size", "16384\n");
    let machine = &fixture.machine;
    let finding = scheduler(machine, "nvme0n1");
    assert_eq!(finding.writes[0].path, format!("{queue}/scheduler"));
    let finding = write_cache(machine, "nvme0n1");
    assert!(
        finding.verdict == Verdict::Warn && finding.found.contains("FUA"),
        "{finding:?}"
    );
    assert_eq!(block_size(machine, "nvme0n1").verdict, Verdict::Warn);
    put("scheduler", "[none] mq-deadline\n");
    put("write_cache", "write through\n");
    put("physical_block_size", "4096\n");
    assert_eq!(scheduler(machine, "nvme0n1").verdict, Verdict::Ok);
    assert_eq!(write_cache(machine, "nvme0n1").verdict, Verdict::Ok);
    assert_eq!(block_size(machine, "nvme0n1").verdict, Verdict::Ok);
    put("logical_block_size", "8192\n");
    assert_eq!(block_size(machine, "nvme0n1").verdict, Verdict::Fail);
    put("rotational", "1\n");
    assert_eq!(scheduler(machine, "nvme0n1").verdict, Verdict::Warn);
}

#[test]
fn interrupts_that_come_where_no_shard_is_are_moved() {
    let fixture = disks();
    fixture.put(
        "/proc/interrupts",
        "        CPU0  CPU1  CPU2\n\
         30:  0  0  9  MSI  0-edge  virtio1-config\n\
         31:  0  0  9  MSI  1-edge  virtio1-req.0\n\
         40:  9  0  0  MSI  0-edge  nvme0q0\n\
         41:  9  0  0  MSI  1-edge  nvme0q1\n\
         42:  0  9  0  MSI  2-edge  nvme0q2\n\
         43:  0  0  9  MSI  3-edge  nvme0q3\n",
    );
    for (number, cpu) in [
        (30, "0"),
        (31, "2"),
        (40, "0-2"),
        (41, "0"),
        (42, "1"),
        (43, "2"),
    ] {
        fixture.put(&format!("/proc/irq/{number}/smp_affinity_list"), cpu);
    }
    let machine = &fixture.machine;
    assert_eq!(interrupts(machine, "nvme0n1", &[0, 1]).verdict, Verdict::Ok);
    assert_eq!(interrupts(machine, "vda", &[2]).verdict, Verdict::Ok);
    let finding = interrupts(machine, "vda", &[0, 1]);
    assert_eq!(
        (
            finding.verdict,
            finding.writes.len(),
            finding.writes[0].path.as_str(),
            finding.writes[0].value.as_str()
        ),
        (Verdict::Warn, 1, "/proc/irq/31/smp_affinity_list", "0")
    );
    let fewer = interrupts(machine, "vda", &[1, 2]);
    assert_eq!(
        fewer.verdict,
        Verdict::Ok,
        "one queue, on a shard's CPU: {fewer:?}"
    );
    assert_eq!(interrupts(machine, "sda", &[0]).verdict, Verdict::Ok);
}

#[test]
fn a_directory_of_this_machine_is_tried_and_left_as_it_was() {
    let outer = tempfile::tempdir().unwrap();
    let machine = Machine::at(Path::new("/"));
    let place = Place::find(&machine, &outer.path().join("not/yet/there")).unwrap();
    assert_eq!(place.dir, outer.path().canonicalize().unwrap());
    let reactor = Reactor::new(&Settings::default()).unwrap();
    let finding = direct_io(Some(&reactor), &place);
    let tmpfs = place
        .mount
        .as_ref()
        .is_some_and(|mount| mount.kind == "tmpfs");
    assert!(tmpfs || finding.verdict == Verdict::Ok, "{finding:?}");
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 0);
    assert_ne!(
        space(Some(&reactor), &place, &Config::defaults(), 1).found,
        "not known"
    );
    assert_eq!(direct_io(None, &place).verdict, Verdict::Fail);
}

#[test]
fn a_file_is_no_place_for_data() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let machine = Machine::at(Path::new("/"));
    let line = Place::find(&machine, file.path()).unwrap_err();
    assert!(line.contains("is no directory"), "{line}");
}
