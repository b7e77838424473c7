//! New files, removals and crashes.

use super::*;

fn chunk(seed: u8) -> Vec<u8> {
    vec![seed; CHUNK_BYTES]
}

/// As much as is written at once.
fn piece(seed: u8) -> Vec<u8> {
    vec![seed; 4 * CHUNK_BYTES]
}

fn has_file(env: &Env, kind: FileKind) -> bool {
    env.world.read_file(0, &path(kind)).is_some()
}

#[test]
fn a_finished_file_survives_a_power_cut() {
    for seed in 0..20 {
        let world = World::new(seed, unnoticeable(seed));
        let reactor = Reactor::simulated(&world, 0, 0);
        let store = Store::new(&reactor, options(1 << 20));
        let made = reactor.clone();
        run(&world, &reactor, async move {
            make_root(&made).await;
            let mut writer = store.create(FileKind::Table, FILE);
            for number in 0..9 {
                let at = u64::from(number) * CHUNK_BYTES as u64;
                writer.write(at, &chunk(number)).await.unwrap();
            }
            // So large that its space is reserved first.
            let large: Vec<u8> = (9..14).flat_map(chunk).collect();
            let at = 9 * CHUNK_BYTES as u64;
            writer.write(at, &large).await.unwrap();
            writer.finish().await.unwrap();
            let writer = store.create(FileKind::Values, FILE);
            writer.finish().await.unwrap();
        });
        drop(reactor);
        world.crash(0);
        let expected: Vec<u8> = (0..14).flat_map(chunk).collect();
        assert!(world.read_file(0, &path(FileKind::Table)) == Some(expected));
        assert!(world.read_file(0, &path(FileKind::Values)) == Some(Vec::new()));
    }
}

#[test]
fn a_file_that_cannot_be_written_is_removed() {
    in_simulation(1 << 20, |env| async move {
        type Break = fn(&mut Faults);
        let faults: [Break; 3] = [
            |faults| faults.disk.write_error = 1.0,
            |faults| faults.disk.sync_error = 1.0,
            |faults| faults.disk.no_space = 1.0,
        ];
        for fault in faults {
            let mut writer = env.store.create(FileKind::Table, FILE);
            let mut broken = Faults::none();
            writer.write(0, &piece(1)).await.unwrap();
            env.reactor.sleep(Duration::from_millis(10)).await;
            fault(&mut broken);
            env.world.set_faults(broken);
            let mut failed = None;
            for number in 1..5 {
                let at = number * piece(2).len() as u64;
                failed = failed.or(writer.write(at, &piece(2)).await.err());
            }
            let failed = failed.or(writer.finish().await.err());
            let error = failed.expect("it fails");
            assert!(
                error
                    .to_string()
                    .contains("0000000012.table cannot be written"),
                "{error}"
            );
            env.world.heal();
            env.reactor.sleep(Duration::from_millis(50)).await;
            assert!(!has_file(&env, FileKind::Table));
        }
    });
}

#[test]
fn a_file_that_was_given_up_is_removed_with_the_next() {
    in_simulation(1 << 20, |env| async move {
        let mut writer = env.store.create(FileKind::Table, FILE);
        writer.write(0, &piece(1)).await.unwrap();
        drop(writer);
        drop(env.store.create(FileKind::Values, FILE));
        assert_eq!(env.store.removals_waiting(), 1);
        let mut writer = env.store.create(FileKind::Values, FILE);
        writer.write(0, &chunk(2)).await.unwrap();
        writer.finish().await.unwrap();
        env.reactor.sleep(Duration::from_millis(50)).await;
        assert!(!has_file(&env, FileKind::Table) && has_file(&env, FileKind::Values));
        assert_eq!(env.store.counters().removals, 1);
    });
}

#[test]
fn large_files_are_removed_one_every_twenty_milliseconds() {
    in_simulation(4 << 20, |env| async move {
        let mut names = Vec::new();
        for number in 20..25 {
            let file = FileId { number, ..FILE };
            let meta = write_table(&env.store, file, 10_000, TABLE).await;
            assert!(meta.file_bytes > 1 << 20);
            let table = env.store.open_table(FILE.partition, meta).await.unwrap();
            find(&env, &table, 3, 7).await.unwrap();
            names.push(FileName::table(file));
        }
        let listed = env.store.list().await.unwrap();
        assert!(
            listed
                .iter()
                .map(|(name, _)| *name)
                .eq(names.iter().copied())
        );
        assert!(listed.iter().all(|(_, bytes)| *bytes > 1 << 20));
        for name in names {
            env.store.remove(name.kind, name.file);
        }
        env.reactor.sleep(Duration::from_millis(60)).await;
        let left = env.store.list().await.unwrap().len();
        assert!((1..5).contains(&left), "{left} are left");
        env.reactor.sleep(Duration::from_millis(200)).await;
        assert_eq!(env.store.list().await.unwrap(), []);
        assert_eq!(
            (env.store.counters().removals, env.store.removals_waiting()),
            (5, 0)
        );
    });
}

#[test]
fn slices_are_granted_in_the_order_of_asking() {
    in_simulation(1 << 20, |env| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        for number in 0..4 {
            let (store, order) = (Rc::clone(&env.store), Rc::clone(&order));
            env.reactor.spawn(async move {
                store
                    .reactor()
                    .sleep(Duration::from_millis(1 + 2 * number))
                    .await;
                store.slice().await;
                order.borrow_mut().push(number);
            });
        }
        env.reactor.sleep(Duration::from_millis(20)).await;
        assert_eq!(env.store.slices_waiting(), 4);
        assert_eq!(env.store.grant_slices(3), 3);
        env.reactor.sleep(Duration::from_millis(2)).await;
        let mut granted = order.borrow().clone();
        granted.sort_unstable();
        assert_eq!(granted, [0, 1, 2]);
        assert_eq!(env.store.grant_slices(3), 1);
    });
}
