//! The content of a file of cluster secrets, and its changes.
//!
//! Plain text: reading and writing is elsewhere. The first secret is used for dialling, and the comments directly
//! above a secret belong to it. Invariants: a change moves, adds or removes whole lines, and leaves all others as
//! they are; no error contains a part of the file, since that could be a secret.

use gossip_transport::credential::{ClusterSecret, Keyring, SecretId};

use super::change::Change;
use super::error::ChangeError;
use super::lines::{entry, is_comment, lacks};

/// The secrets of a file, and its text.
#[derive(Debug)]
pub(super) struct SecretFile {
    keyring: Keyring,
    lines: Vec<Line>,
}

/// A line with its end, which the last line of a file may lack.
struct Line {
    text: String,
    /// The secret on it, if there is one.
    secret: Option<SecretId>,
}

impl Line {
    fn without_secret(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            secret: None,
        }
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({:?})", self.secret)
    }
}

impl SecretFile {
    /// Parses the text of a file.
    ///
    /// # Errors
    ///
    /// Fails if there is no secret, if there are more than four or one is there twice, or if a line is none. The
    /// text follows the name of the file.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut secrets: Vec<(usize, ClusterSecret)> = Vec::new();
        let mut lines: Vec<_> = text
            .split_inclusive('\n')
            .map(Line::without_secret)
            .collect();
        for (line, found) in (1..).zip(&mut lines) {
            let Some(entry) = entry(&found.text) else {
                continue;
            };
            let secret: ClusterSecret = entry.parse().map_err(|_| {
                format!(
                    ", line {line}: does not contain a cluster secret, which is gossip-secret- and base32 \
                     (a-z, 2-7): copy it from another node, or remove the line"
                )
            })?;
            let same = secrets.iter().find(|(_, known)| known.id() == secret.id());
            if let Some((first, _)) = same {
                return Err(format!(
                    ", line {line}: the same secret as on line {first}: remove one of them"
                ));
            }
            if secrets.len() >= Keyring::MAX_SECRETS {
                let max = Keyring::MAX_SECRETS;
                return Err(format!(
                    ", line {line}: more than {max} secrets: remove those that no node uses any more"
                ));
            }
            found.secret = Some(secret.id());
            secrets.push((line, secret));
        }
        let keyring = Keyring::new(secrets.iter().map(|(_, secret)| secret.clone()));
        let keyring = keyring.map_err(|_| {
            format!(
                " {} a cluster secret: copy the file from another node, or make a new secret for all \
                 nodes with gossip-node --make-secret",
                lacks(text)
            )
        })?;
        Ok(Self { keyring, lines })
    }

    /// Returns the secrets.
    pub(super) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Applies a change, and returns the secret that it is about. Changes nothing if that fails.
    ///
    /// # Errors
    ///
    /// Fails if there is no such secret, or if the change would break a rule of [`Keyring`].
    pub(super) fn change(&mut self, change: &Change) -> Result<SecretId, ChangeError> {
        match change {
            Change::Add(secret) => self.add(secret),
            Change::Use(prefix) => self.put_first(self.find(prefix)?),
            Change::Remove(prefix) => self.remove(self.find(prefix)?),
        }
    }

    /// Returns the whole text.
    pub(super) fn text(&self) -> String {
        self.lines.iter().map(|line| &*line.text).collect()
    }

    fn add(&mut self, secret: &ClusterSecret) -> Result<SecretId, ChangeError> {
        let id = secret.id();
        if self.keyring.get(id).is_some() {
            return Err(ChangeError::Exists(id));
        }
        let added = self.keyring.adding(secret.clone());
        self.keyring = added.map_err(|_| ChangeError::TooMany(self.ids()))?;
        self.end_last_line();
        self.lines.push(Line {
            text: secret.to_text() + "\n",
            secret: Some(id),
        });
        Ok(id)
    }

    fn put_first(&mut self, id: SecretId) -> Result<SecretId, ChangeError> {
        let unknown = |_| self.unknown(&id.to_string());
        self.keyring = self.keyring.using(id).map_err(unknown)?;
        if self.lines.iter().find_map(|line| line.secret) == Some(id) {
            return Ok(id);
        }
        self.end_last_line();
        let moved = self.cut(id);
        let first = self.lines.iter().position(|line| line.secret.is_some());
        let place = self.start_of(first.unwrap_or_default());
        self.lines.splice(place..place, moved);
        Ok(id)
    }

    fn remove(&mut self, id: SecretId) -> Result<SecretId, ChangeError> {
        let removed = self.keyring.removing(id);
        let removed = removed.map_err(|_| ChangeError::Last(id))?;
        if self.keyring.first().id() == id {
            return Err(ChangeError::InUse(id));
        }
        self.keyring = removed;
        self.cut(id);
        Ok(id)
    }

    /// Returns the only secret whose id begins with `prefix`.
    fn find(&self, prefix: &str) -> Result<SecretId, ChangeError> {
        let prefix = prefix.trim().to_ascii_lowercase();
        let ids = self.keyring.secrets().map(ClusterSecret::id);
        let mut found = ids.filter(|id| id.to_string().starts_with(&prefix));
        match (found.next(), found.next()) {
            // Every id begins with an empty prefix, which is more likely that of a variable that is not set.
            (Some(id), None) if !prefix.is_empty() => Ok(id),
            (Some(_), Some(_)) => Err(ChangeError::Ambiguous(self.ids())),
            _ => Err(self.unknown(&prefix)),
        }
    }

    fn unknown(&self, given: &str) -> ChangeError {
        ChangeError::Unknown {
            given: given.to_owned(),
            ids: self.ids(),
        }
    }

    fn ids(&self) -> Vec<SecretId> {
        self.keyring.secrets().map(ClusterSecret::id).collect()
    }

    /// Takes the line of a secret out, with the comments that belong to it.
    fn cut(&mut self, id: SecretId) -> Vec<Line> {
        let found = self.lines.iter().position(|line| line.secret == Some(id));
        match found {
            Some(end) => self.lines.drain(self.start_of(end)..=end).collect(),
            None => Vec::new(),
        }
    }

    /// Returns the first line that belongs to the secret on line `end`.
    fn start_of(&self, end: usize) -> usize {
        let above = self.lines.iter().take(end).rev();
        end - above.take_while(|line| is_comment(&line.text)).count()
    }

    fn end_last_line(&mut self) {
        if let Some(last) = self.lines.last_mut()
            && !last.text.ends_with('\n')
        {
            last.text.push('\n');
        }
    }
}

/// Returns the only secret in the text of the file `name`.
///
/// # Errors
///
/// Fails with a text that says what to do.
pub(crate) fn only_secret(name: &str, text: &str) -> Result<ClusterSecret, String> {
    let file = SecretFile::parse(text).map_err(|reason| format!("{name}{reason}"))?;
    match file.keyring().secrets().count() {
        1 => Ok(file.keyring().first().clone()),
        count => Err(format!(
            "{name} contains {count} secrets: give a file with only the new one"
        )),
    }
}

/// Returns the first secret in the text of the file `name`, which is the one for dialling.
///
/// # Errors
///
/// Fails with a text that says what to do.
pub(crate) fn first_secret(name: &str, text: &str) -> Result<ClusterSecret, String> {
    let file = SecretFile::parse(text).map_err(|reason| format!("{name}{reason}"))?;
    Ok(file.keyring().first().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(n: u8) -> ClusterSecret {
        ClusterSecret::from_bytes(&[n; 16]).unwrap()
    }

    fn id(n: u8) -> String {
        secret(n).id().to_string()
    }

    /// Returns the text of a file in which each digit stands for a secret.
    fn text(pattern: &str) -> String {
        let text = pattern.chars().map(|c| match c.to_digit(10) {
            Some(n) => secret(u8::try_from(n).unwrap()).to_text(),
            None => c.to_string(),
        });
        text.collect()
    }

    fn changed(pattern: &str, change: &Change) -> String {
        let mut file = SecretFile::parse(&text(pattern)).unwrap();
        file.change(change).unwrap();
        // What is written is what is used.
        let read = SecretFile::parse(&file.text()).unwrap();
        assert_eq!(read.keyring(), file.keyring());
        file.text()
    }

    fn refused(pattern: &str, change: &Change) -> ChangeError {
        let mut file = SecretFile::parse(&text(pattern)).unwrap();
        let error = file.change(change).unwrap_err();
        assert_eq!(file.text(), text(pattern));
        error
    }

    #[test]
    fn the_first_secret_is_for_dialling_and_comments_and_empty_lines_are_allowed() {
        let file = SecretFile::parse(&text("# head\n\n2 # new\n  1\r\n#3\n")).unwrap();
        let expected = Keyring::new([secret(2), secret(1)]).unwrap();
        assert_eq!(file.keyring(), &expected);
    }

    #[test]
    fn an_invalid_file_is_reported_with_its_line_and_the_remedy_and_without_its_content() {
        for (pattern, line, remedy) in [
            ("", " is empty", "--make-secret"),
            ("# 1\n", " does not contain", "--make-secret"),
            (
                "1\n\nnonsense\n",
                ", line 3: does not contain",
                "remove the line",
            ),
            ("1\n1x\n", ", line 2: does not contain", "from another node"),
            (
                "1\n2\n#\n1",
                ", line 4: the same secret as on line 1",
                "remove one",
            ),
            ("1\n2\n3\n4\n5\n", ", line 5: more than 4", "remove those"),
        ] {
            let error = SecretFile::parse(&text(pattern)).unwrap_err();
            assert!(error.starts_with(line) && error.contains(remedy), "{error}");
            assert!(!error.contains("nonsense"), "{error}");
            assert!(!error.contains(&secret(1).to_text()), "{error}");
        }
    }

    #[test]
    fn a_rotation_changes_the_lines_of_secrets_and_nothing_else() {
        let add = |n| Change::Add(secret(n));
        let (put, remove) = (|n| Change::Use(id(n)), |n| Change::Remove(id(n)));
        for (before, change, after) in [
            ("1", add(2), "1\n2\n"),
            (
                "# head\n\n# a\n1\n\n# end",
                add(2),
                "# head\n\n# a\n1\n\n# end\n2\n",
            ),
            ("1\n2", put(2), "2\n1\n"),
            (
                "# head\n\n# a\n1\n# b\n2 # c\n# end\n",
                put(2),
                "# head\n\n# b\n2 # c\n# a\n1\n# end\n",
            ),
            ("1\n2\n3\n", put(3), "3\n1\n2\n"),
            ("1 \n2", put(1), "1 \n2"),
            (
                "# head\n\n# b\n2\n# a\n1\n",
                remove(1),
                "# head\n\n# b\n2\n",
            ),
            ("2\n\n1\n", remove(1), "2\n\n"),
        ] {
            assert_eq!(changed(before, &change), text(after), "{before:?}");
        }
    }

    #[test]
    fn a_secret_is_named_by_a_part_of_its_id_that_no_other_begins_with() {
        let of = |prefix: &str| Change::Use(prefix.to_owned());
        let ids = || vec![secret(1).id(), secret(2).id()];
        let upper = id(2)[..2].to_uppercase();
        assert_eq!(changed("1\n2\n", &of(&upper)), text("2\n1\n"));
        assert_eq!(refused("1\n2\n", &of("")), ChangeError::Ambiguous(ids()));
        let unknown = |given: &str, ids| ChangeError::Unknown {
            given: given.to_owned(),
            ids,
        };
        assert_eq!(refused("1\n2\n", &of("1")), unknown("1", ids()));
        let only = || vec![secret(1).id()];
        assert_eq!(refused("1\n", &of("")), unknown("", only()));
        assert_eq!(refused("1\n", &of(" ")), unknown("", only()));
        let longer = format!("{}a", id(2));
        assert_eq!(refused("1\n2\n", &of(&longer)), unknown(&longer, ids()));
    }

    #[test]
    fn a_change_that_breaks_a_rule_changes_nothing() {
        let remove = |n| Change::Remove(id(n));
        let id = |n| secret(n).id();
        assert_eq!(refused("1", &remove(1)), ChangeError::Last(id(1)));
        assert_eq!(refused("1\n2", &remove(1)), ChangeError::InUse(id(1)));
        let again = Change::Add(secret(2));
        assert_eq!(refused("1\n2", &again), ChangeError::Exists(id(2)));
        let fifth = Change::Add(secret(5));
        let all = (1..5).map(id).collect();
        assert_eq!(refused("1\n2\n3\n4", &fifth), ChangeError::TooMany(all));
    }

    #[test]
    fn no_secret_is_in_the_debug_form() {
        let file = SecretFile::parse(&text("1\n2")).unwrap();
        let add = Change::Add(secret(3));
        assert!(!format!("{file:?} {add:?}").contains("gossip-secret-"));
    }
}
