//! The file that says what a data directory was made as: refused, or good enough to find a
//! partition for every key and a shard for every partition.
#![no_main]

use std::path::Path;

use ashlar_fuzz::Disk;
use ashlar_node::format::{self, FILE_NAME, Format};
use ashlar_node::route::Routes;
use libfuzzer_sys::fuzz_target;

fn check(format: &Format) {
    let boundaries = format.boundaries();
    assert!(boundaries.is_sorted_by(|a, b| a < b), "{boundaries:?}");
    assert!(boundaries.iter().all(|key| key.len() > 1), "{boundaries:?}");
    assert!(format.shards <= 1024, "{} shards", format.shards);
    assert!(format.shards > 0 && format.segment_bytes.is_multiple_of(4096));
    let routes = Routes::new(&boundaries, format.shards);
    assert_eq!(routes.partitions(), boundaries.len() + 1);
    let keys = boundaries
        .iter()
        .map(Vec::as_slice)
        .chain([&[0][..], &[15, 255], &[0, 1, 2]]);
    for key in keys {
        let partition = routes.partition_of(key);
        assert!(routes.range(partition).contains(key), "{key:?}");
        assert!(routes.shard_of(partition) < format.shards);
    }
    let _ = format.durability();
    let _ = format.log_id(format.shards - 1);
}

fuzz_target!(|data: &[u8]| {
    let disk = Disk::default();
    disk.make_dir("/data");
    disk.put(format!("/data/{FILE_NAME}"), data.to_vec());
    let reactor = disk.reactor();
    let found = disk.run(async move { format::read(&reactor, Path::new("/data")).await });
    match found {
        Ok(Some(format)) => check(&format),
        Ok(None) => panic!("a file that is there was not found"),
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});
