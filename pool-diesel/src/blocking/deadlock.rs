//! Knowing a deadlock by what every server says of it, in whichever language.

/// Whether this is what a server adds to the error of a deadlock: a line for each process, with the
/// lock that it waits for, around to the first again (`DeadLockReport` in PostgreSQL's source).
///
/// The names of the modes are never translated. The process that waits is the first number of its
/// line and the one that blocks it the last, in all languages that PostgreSQL speaks.
pub(super) fn is_circle(details: &str) -> bool {
    let waits: Option<Vec<_>> = details.lines().map(wait).collect();
    let waits = waits.unwrap_or_default();
    let blocking = waits.iter().map(|(_, blocking)| blocking);
    let next = waits.iter().cycle().skip(1).map(|(waiting, _)| waiting);
    waits.len() > 1 && blocking.zip(next).all(|(blocking, next)| blocking == next)
}

/// The process that waits for a lock, and the one that has it.
fn wait(line: &str) -> Option<(&str, &str)> {
    if !line.contains("ShareLock") && !line.contains("ExclusiveLock") {
        return None;
    }
    let mut numbers = line
        .split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty());
    Some((numbers.next()?, numbers.next_back()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_of_processes_is_one_in_every_language() {
        for details in [
            "Process 11 waits for ShareLock on transaction 7; blocked by process 22.\n\
             Process 22 waits for ShareLock on transaction 8; blocked by process 11.",
            "Prozess 11 wartet auf AccessExclusiveLock-Sperre auf Relation 5 von Datenbank 1; \
             blockiert von Prozess 22.\n\
             Prozess 22 wartet auf RowShareLock-Sperre auf Tupel (0, 3) von Relation 5 von \
             Datenbank 1; blockiert von Prozess 33.\n\
             Prozess 33 wartet auf ExclusiveLock-Sperre auf Transaktion 9; blockiert von Prozess 11.",
            "プロセス 11 は ShareLock を トランザクション 7 で待機していましたが、プロセス 22 でブロックされました\n\
             プロセス 22 は ShareLock を トランザクション 8 で待機していましたが、プロセス 11 でブロックされました",
            "11 프로세스가 ShareLock 상태로 지연되고 있음(해당 작업: 트랜잭션 7); 22 프로세스에 의해 블록킹되었음\n\
             22 프로세스가 ShareLock 상태로 지연되고 있음(해당 작업: 트랜잭션 8); 11 프로세스에 의해 블록킹되었음",
            "进程11等待在事务 7上的ShareLock; 由进程22阻塞.\n进程22等待在事务 8上的ShareLock; 由进程11阻塞.",
        ] {
            assert!(is_circle(details), "{details}");
        }
    }

    #[test]
    fn what_is_no_circle_is_no_deadlock() {
        for details in [
            "",
            "Key (id)=(1) already exists.",
            "Process 11 waits for ShareLock on transaction 7; blocked by process 11.",
            "Process 11 waits for ShareLock on transaction 7; blocked by process 22.\n\
             Process 22 waits for ShareLock on transaction 8; blocked by process 33.",
            "Process 11 holds 7, asked for by process 22.\nProcess 22 holds 8, asked for by process 11.",
            "ShareLock\nShareLock",
        ] {
            assert!(!is_circle(details), "{details}");
        }
    }
}
