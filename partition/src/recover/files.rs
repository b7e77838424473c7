//! The files of a partition in recovery: its tables are opened, and what is left of others is removed.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::lsm::Unreadable;
use crate::lsm::store::{ReadError, Store};
use crate::lsm::table::{Table, TableMeta};
use crate::lsm::version::Version;

/// Tables opened at once.
const OPENED_AT_ONCE: usize = 32;

/// Opens the tables of a version; says of them what is damaged, if anything is. A table that is not there is, too, when
/// the partition `has_others`, replicas that have it: the edit that removed it was lost with a log, or the node died
/// while one of the leader's took its place.
pub(super) async fn open_tables(
    store: &Rc<Store>,
    partition: u32,
    version: &Version<TableMeta>,
    has_others: bool,
) -> Result<(Vec<Rc<Table>>, Option<String>), Unreadable> {
    let mut opened = Vec::new();
    let metas: Vec<_> = version.tables().map(|(_, meta)| meta.clone()).collect();
    let mut metas = metas.into_iter();
    let mut damage = None;
    loop {
        let some: Vec<_> = metas.by_ref().take(OPENED_AT_ONCE).collect();
        if some.is_empty() {
            break;
        }
        let opening = some.into_iter().map(|meta| {
            let store = Rc::clone(store);
            Box::pin(async move { store.open_table(partition, meta).await }) as Opening
        });
        for table in all(opening.collect()).await {
            match table {
                Ok(table) => opened.push(table),
                Err(error) if error.is_damage() || (has_others && error.is_missing()) => {
                    damage = Some(error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok((opened, damage))
}

/// Has the files removed that no version names, unless `keeps` says that one may have done so which is lost. Their
/// numbers are not given again: what is left of such a file would pass for what is in another one.
pub(super) async fn remove_orphans(
    store: &Rc<Store>,
    partition: u32,
    version: &mut Version<TableMeta>,
    keeps: bool,
) -> Result<(), Unreadable> {
    let listed = store.list_of(partition).await;
    let files = listed.map_err(|error| {
        let what = format!("files of partition {partition} cannot be listed: {error}");
        Unreadable::new(what)
    })?;
    let named: BTreeSet<u64> = version.files().collect();
    for (name, _) in files {
        let number = name.file.number;
        version.next_number = version.next_number.max(number.saturating_add(1));
        if !keeps && !named.contains(&number) {
            store.remove(name.kind, name.file);
        }
    }
    Ok(())
}

type Opening = Pin<Box<dyn Future<Output = Result<Rc<Table>, ReadError>>>>;

/// Waits for all of them; the answers are in their order.
async fn all(mut openings: Vec<Opening>) -> Vec<Result<Rc<Table>, ReadError>> {
    let mut answers: Vec<Option<_>> = openings.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (opening, answer) in openings.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let Poll::Ready(ready) = opening.as_mut().poll(context)
            {
                *answer = Some(ready);
            }
        }
        match answers.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}
