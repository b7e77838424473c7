//! Files and directories.

use std::io::ErrorKind;

use ashlar_io::file::{create_dir, list, rename, space, sync_dir, unlink};
use ashlar_io::rng::Rng;
use ashlar_io::{Buf, Durable, File, OpenOptions};

use crate::harness::{CREATE, Env, READ, both, filled, pattern, poll_once};

both!(
    random_writes_read_back_as_in_a_flat_model,
    a_read_is_short_only_at_the_end,
    each_way_of_opening_says_what_is_wrong,
    a_handle_that_only_reads_refuses_writes,
    direct_files_keep_to_their_alignment,
    a_direct_read_may_end_within_a_sector,
    space_is_reserved_and_reads_as_zeros,
    a_file_system_tells_its_space,
    a_rename_replaces_its_target,
    a_removed_file_lives_while_it_is_open,
    a_directory_lists_in_order_of_name,
    a_directory_is_synced_or_said_to_be_missing,
    many_writes_at_once_all_land,
    registered_and_plain_buffers_hold_the_same,
    a_dropped_open_leaves_nothing_open,
    a_dropped_write_is_done_all_the_same,
    dropped_reads_disturb_nobody,
);

async fn read(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let (count, buf) = file.read_at(Buf::heap(len), offset).await;
    buf.as_slice()[..count.unwrap()].to_vec()
}

async fn write(file: &File, offset: u64, bytes: &[u8], durable: Durable) {
    let (count, buf) = file.write_at(filled(bytes), offset, durable).await;
    assert_eq!(count.unwrap(), bytes.len());
    assert_eq!(buf.as_slice(), bytes, "the buffer comes back as it went");
}

async fn random_writes_read_back_as_in_a_flat_model(env: Env) {
    let file = env.create("file").await;
    let (mut rng, mut model) = (Rng::new(7), Vec::new());
    for round in 0..60 {
        let (offset, len) = (rng.below(200_000), 1 + rng.index(70_000));
        let bytes = pattern(round, 0, len);
        let end = usize::try_from(offset).unwrap() + len;
        model.resize(model.len().max(end), 0);
        model[end - len..end].copy_from_slice(&bytes);
        let durable = if rng.coin() {
            Durable::Yes
        } else {
            Durable::No
        };
        write(&file, offset, &bytes, durable).await;
        if rng.chance(0.2) {
            file.sync().await.unwrap();
        }
        let (from, len) = (rng.index(model.len()), 1 + rng.index(90_000));
        let expected = &model[from..model.len().min(from + len)];
        assert!(read(&file, from as u64, len).await == expected);
    }
    assert_eq!(file.bytes().await.unwrap(), model.len() as u64);
    drop(file);
    let again = File::open(&env.reactor, &env.path("file"), READ)
        .await
        .unwrap();
    assert!(read(&again, 0, model.len() + 1).await == model);
}

async fn a_read_is_short_only_at_the_end(env: Env) {
    let file = env.create("file").await;
    write(&file, 0, &pattern(1, 0, 10_000), Durable::No).await;
    assert_eq!(read(&file, 9_999, 100).await.len(), 1);
    assert_eq!(read(&file, 10_000, 100).await.len(), 0);
    assert_eq!(read(&file, 1 << 40, 100).await.len(), 0);
    assert_eq!(read(&file, 0, 10_000).await.len(), 10_000);
    assert_eq!(
        file.read_at(Buf::heap(0), 0).await.0.unwrap(),
        0,
        "nothing is asked for and nothing read"
    );
}

async fn each_way_of_opening_says_what_is_wrong(env: Env) {
    let open = async |name: &str, options| {
        File::open(&env.reactor, &env.path(name), options)
            .await
            .map_err(|e| e.kind())
            .err()
    };
    let new = OpenOptions {
        create_new: true,
        ..CREATE
    };
    assert_eq!(open("file", READ).await, Some(ErrorKind::NotFound));
    assert_eq!(open("none/file", CREATE).await, Some(ErrorKind::NotFound));
    assert_eq!(open("file", new).await, None);
    assert_eq!(open("file", new).await, Some(ErrorKind::AlreadyExists));
    assert_eq!(open("file", CREATE).await, None);
    assert_eq!(open("file", READ).await, None);
    create_dir(&env.reactor, &env.path("dir")).await.unwrap();
    assert_eq!(open("dir", CREATE).await, Some(ErrorKind::IsADirectory));
}

async fn a_handle_that_only_reads_refuses_writes(env: Env) {
    drop(env.create("file").await);
    let file = File::open(&env.reactor, &env.path("file"), READ)
        .await
        .unwrap();
    let (result, buf) = file.write_at(filled(b"no"), 0, Durable::No).await;
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(buf.as_slice(), b"no", "the buffer comes back");
    assert_eq!(file.bytes().await.unwrap(), 0);
}

async fn direct_files_keep_to_their_alignment(env: Env) {
    let Some(file) = env.create_direct("file").await else {
        return;
    };
    write(&file, 0, &pattern(3, 0, 16_384), Durable::Yes).await;
    assert!(read(&file, 4_096, 8_192).await == pattern(3, 4_096, 8_192));
    for (offset, len) in [(100, 4_096), (0, 100)] {
        let (result, _) = file
            .write_at(filled(&pattern(4, 0, len)), offset, Durable::No)
            .await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
        let (result, _) = file.read_at(Buf::heap(len), offset).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(read(&file, 0, 16_384).await == pattern(3, 0, 16_384));
}

async fn a_direct_read_may_end_within_a_sector(env: Env) {
    let plain = env.create("file").await;
    write(&plain, 0, &pattern(3, 0, 5_000), Durable::No).await;
    plain.sync().await.unwrap();
    let Some(file) = env.create_direct("file").await else {
        return;
    };
    assert!(read(&file, 0, 8_192).await == pattern(3, 0, 5_000));
    assert!(read(&file, 4_096, 4_096).await == pattern(3, 4_096, 904));
}

async fn space_is_reserved_and_reads_as_zeros(env: Env) {
    let file = env.create("file").await;
    write(&file, 0, b"begin", Durable::No).await;
    file.preallocate(100_000).await.unwrap();
    assert_eq!(file.bytes().await.unwrap(), 100_000);
    let content = read(&file, 0, 200_000).await;
    assert_eq!(&content[..5], b"begin");
    assert!(content.len() == 100_000 && content[5..].iter().all(|&b| b == 0));
    file.preallocate(10).await.unwrap();
    assert_eq!(
        file.bytes().await.unwrap(),
        100_000,
        "a reservation never cuts"
    );
}

async fn a_file_system_tells_its_space(env: Env) {
    let found = space(&env.reactor, &env.path(".")).await.unwrap();
    assert!(0 < found.free_bytes && found.free_bytes <= found.total_bytes);
    let missing = space(&env.reactor, &env.path("missing")).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn a_rename_replaces_its_target(env: Env) {
    let (old, new) = (env.path("old"), env.path("new"));
    let file = env.create("old").await;
    write(&file, 0, b"kept", Durable::No).await;
    write(&env.create("new").await, 0, b"replaced", Durable::No).await;
    rename(&env.reactor, &old, &new).await.unwrap();
    assert_eq!(read(&file, 0, 100).await, b"kept");
    let found = File::open(&env.reactor, &new, READ).await.unwrap();
    assert_eq!(read(&found, 0, 100).await, b"kept");
    let missing = rename(&env.reactor, &old, &new).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let nowhere = rename(&env.reactor, &new, &env.path("none/file"))
        .await
        .unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
}

async fn a_removed_file_lives_while_it_is_open(env: Env) {
    let path = env.path("file");
    let file = env.create("file").await;
    write(&file, 0, b"still here", Durable::No).await;
    unlink(&env.reactor, &path).await.unwrap();
    assert_eq!(read(&file, 0, 100).await, b"still here");
    let missing = unlink(&env.reactor, &path).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    create_dir(&env.reactor, &path).await.unwrap();
    let dir = unlink(&env.reactor, &path).await.unwrap_err();
    assert_eq!(dir.kind(), ErrorKind::IsADirectory);
}

async fn a_directory_lists_in_order_of_name(env: Env) {
    for name in ["b", "a", "a.b", "c"] {
        write(
            &env.create(name).await,
            0,
            &vec![1; name.len()],
            Durable::No,
        )
        .await;
    }
    create_dir(&env.reactor, &env.path("aa")).await.unwrap();
    create_dir(&env.reactor, &env.path("aa")).await.unwrap();
    let over_file = create_dir(&env.reactor, &env.path("a")).await.unwrap_err();
    assert_eq!(over_file.kind(), ErrorKind::AlreadyExists);
    let orphan = create_dir(&env.reactor, &env.path("x/y"))
        .await
        .unwrap_err();
    assert_eq!(orphan.kind(), ErrorKind::NotFound);
    let entries = list(&env.reactor, &env.dir).await.unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|e| (e.name.as_str(), e.bytes, e.is_dir))
        .collect();
    let expected = [
        ("a", 1, false),
        ("a.b", 3, false),
        ("aa", 0, true),
        ("b", 1, false),
        ("c", 1, false),
    ];
    assert_eq!(found, expected);
    let missing = list(&env.reactor, &env.path("none")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

async fn a_directory_is_synced_or_said_to_be_missing(env: Env) {
    for _ in 0..3 {
        let missing = sync_dir(&env.reactor, &env.path("none")).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        sync_dir(&env.reactor, &env.dir).await.unwrap();
    }
}

async fn many_writes_at_once_all_land(env: Env) {
    let file = std::rc::Rc::new(env.create("file").await);
    let tasks: Vec<_> = (0..300)
        .map(|n: usize| {
            let file = std::rc::Rc::clone(&file);
            let bytes = pattern(9, n * 1_000, 1_000);
            env.spawn(async move { write(&file, n as u64 * 1_000, &bytes, Durable::No).await })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    assert!(read(&file, 0, 300_000).await == pattern(9, 0, 300_000));
}

async fn registered_and_plain_buffers_hold_the_same(env: Env) {
    let Some(file) = env.create_direct("file").await else {
        return;
    };
    for round in 0..20_usize {
        // More buffers than there are registered blocks.
        let bytes = pattern(round as u64, 0, 8_192);
        let mut buffers: Vec<Buf> = (0..10).map(|_| env.reactor.buffer(8_192)).collect();
        let mut buf = buffers.swap_remove(round % 10);
        buf.as_mut_slice().copy_from_slice(&bytes);
        let (result, buf) = file.write_at(buf, 0, Durable::Yes).await;
        assert_eq!(result.unwrap(), 8_192);
        drop(buf);
        let (result, back) = file.read_at(buffers.swap_remove(round % 9), 0).await;
        assert_eq!(result.unwrap(), 8_192);
        assert!(back.as_slice() == bytes);
    }
}

async fn a_dropped_open_leaves_nothing_open(env: Env) {
    for n in 0..20 {
        let path = env.path(&format!("file{n}"));
        let opened = poll_once(File::open(&env.reactor, &path, CREATE)).await;
        assert!(opened.is_none(), "an open takes a turn at least");
        if n % 2 == 0 {
            env.pause(1).await;
        }
    }
    // The harness looks for files left open.
    env.pause(20).await;
    assert_eq!(list(&env.reactor, &env.dir).await.unwrap().len(), 20);
}

async fn a_dropped_write_is_done_all_the_same(env: Env) {
    let file = env.create("file").await;
    let bytes = pattern(5, 0, 4_096);
    let early = poll_once(file.write_at(filled(&bytes), 0, Durable::Yes)).await;
    assert!(early.is_none());
    drop(poll_once(file.sync()).await);
    env.pause(100).await;
    assert!(read(&file, 0, 4_096).await == bytes);
}

async fn dropped_reads_disturb_nobody(env: Env) {
    let file = env.create("file").await;
    write(&file, 0, &pattern(6, 0, 65_536), Durable::No).await;
    for round in 0..50 {
        drop(poll_once(file.read_at(env.reactor.buffer(65_536), 0)).await);
        let at = round * 1_000;
        assert!(read(&file, at as u64, 1_000).await == pattern(6, at, 1_000));
    }
}
