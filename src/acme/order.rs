//! One order: from the account to the certificate (RFC 8555, section 7).
//!
//! It decides nothing about time, and keeps nothing but the account. Invariant: once it has ended, however it ended, no
//! validation is answered any more.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, ExternalAccountKey,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use zeroize::Zeroizing;

use super::config::AcmeConfig;
use super::error::{AcmeError, Failed, described};
use super::http::Client;
use super::name::AcmeName;
use super::schedule::Window;
use super::store::{self, Files};
use crate::rt::{self, Instant};
use crate::tcp::{TlsIdentity, TlsValidation};

/// The profile of the certificates that public authorities issue for IP addresses.
const SHORT_LIVED: &str = "shortlived";
/// The wait before the authority is asked for the first time how far it is, and by which it grows. It may ask for longer ones.
const POLL: (Duration, f32) = (Duration::from_millis(250), 1.5);
/// The number of times for which a certificate is fetched again.
const FETCHES: u32 = 5;
/// The part of [`AcmeConfig::retry`] after which it is fetched again for the first time: 1 s. It doubles.
const FETCH_AFTER: u32 = 300;
/// The number of attempts that go on with an order. With the pauses between them, the last one is half an hour or more after it.
const MAX_RESUMES: u32 = 3;
/// The type of the problem of an account that may not do something, as one that was deactivated, without its prefix.
const UNAUTHORIZED: &str = "unauthorized";
/// The type of the problem of an account that the authority does not know.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// An order whose certificate was requested, and may be issued any time.
pub(super) struct Pending {
    url: String,
    /// The key of the certificate, as PEM.
    key: Zeroizing<Vec<u8>>,
    request: Vec<u8>,
    /// The number of attempts that went on with it.
    resumes: u32,
    /// Whether the authority has given it up, whatever the reason was.
    is_invalid: bool,
}

impl Pending {
    /// Returns whether another attempt may go on with it. An authority may never end its work on an order.
    pub(super) fn is_resumable(&self) -> bool {
        self.resumes < MAX_RESUMES && !self.is_invalid
    }
}

/// The authority as one attempt sees it.
pub(super) struct Authority<'a> {
    pub(super) config: &'a AcmeConfig,
    pub(super) files: &'a Files,
    client: Client,
    account: Account,
    /// Whether the account is from a file, so that the authority may have forgotten it.
    is_from_file: bool,
}

impl<'a> Authority<'a> {
    /// Reads the directory of the authority, and takes the account from its file, or creates it.
    ///
    /// # Errors
    ///
    /// Fails if the authority cannot be reached, refuses an account, or if the file cannot be read or written.
    pub(super) async fn open(config: &'a AcmeConfig, files: &'a Files) -> Result<Self, Failed> {
        let client = Client::new(config.roots.clone(), config.request_timeout).await;
        let client = client.map_err(|error| AcmeError::of_request(error, None))?;
        if let Some(file) = files.account().await? {
            let builder = Account::builder_with_http(Box::new(client.clone()));
            let credentials = copy(&file.credentials)?;
            let opened = builder.from_credentials(credentials).await;
            let account = opened.map_err(|error| failed(error, &client))?;
            let this = Self {
                config,
                files,
                client,
                account,
                is_from_file: true,
            };
            this.tell_contact(file).await?;
            return Ok(this);
        }
        let account = create(config, files, &client).await?;
        Ok(Self {
            config,
            files,
            client,
            account,
            is_from_file: false,
        })
    }

    /// Tells the authority the contact of the configuration, unless that is the one it knows.
    async fn tell_contact(&self, mut file: store::Account) -> Result<(), AcmeError> {
        if file.contact == self.config.contact {
            return Ok(());
        }
        let contact: Vec<_> = self.config.contact.iter().map(String::as_str).collect();
        match self.account.update_contacts(&contact).await {
            // The order will say so, too, and leads to a new account.
            Err(instant_acme::Error::Api(problem)) if is_no_account(&problem) => Ok(()),
            Err(error) => Err(self.of_account(error)),
            Ok(()) => {
                file.contact.clone_from(&self.config.contact);
                self.files.save_account(&file).await
            }
        }
    }

    /// Orders a certificate, and returns its key and its chain as PEM. `identity` answers the validations. `replaces` names
    /// the certificate before it, if the authority knows that one. If an earlier attempt has left an order in `pending`, goes on
    /// with that one. Leaves its own there if the authority is away or asks to wait once the certificate was requested, unless
    /// the order has become invalid.
    ///
    /// # Errors
    ///
    /// Fails if the authority cannot be reached, refuses the order, or cannot validate a name.
    pub(super) async fn obtain(
        &mut self,
        identity: &TlsIdentity,
        replaces: Option<CertificateIdentifier<'static>>,
        pending: &mut Option<Pending>,
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let chain = match pending {
            Some(earlier) => {
                // Before, since the attempt may be cancelled.
                earlier.resumes = earlier.resumes.saturating_add(1);
                self.resume(earlier).await
            }
            None => {
                let mut order = self.order(replaces).await?;
                self.complete(&mut order, identity, pending).await
            }
        };
        let is_valid = pending.as_ref().is_some_and(|it| !it.is_invalid);
        let chain = match chain {
            Err(error) if error.is_about_now() && is_valid => return Err(Failed::counted(error)),
            chain => chain,
        };
        let ordered = pending.take();
        let chain = chain.map_err(Failed::counted)?;
        let mut pem = ordered.map(|ordered| ordered.key).unwrap_or_default();
        pem.extend_from_slice(chain.as_bytes());
        Ok(pem)
    }

    fn policy(&self) -> RetryPolicy {
        RetryPolicy::new()
            .initial_delay(POLL.0)
            .backoff(POLL.1)
            .timeout(self.config.order_timeout)
    }

    /// Has the names of an order validated and the certificate issued. Returns its chain as PEM.
    async fn complete(
        &self,
        order: &mut Order,
        identity: &TlsIdentity,
        pending: &mut Option<Pending>,
    ) -> Result<String, AcmeError> {
        let validations = self.answer(order, identity).await?;
        let policy = self.policy();
        if !matches!(
            order.state().status,
            OrderStatus::Ready | OrderStatus::Valid
        ) {
            match order.poll_ready(&policy).await {
                Ok(OrderStatus::Ready) => {}
                Ok(_) => return Err(self.diagnose(order, None).await),
                Err(instant_acme::Error::Api(problem)) => {
                    return Err(self.diagnose(order, Some(problem)).await);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        drop(validations);

        let (key, request) = request(&self.config.names).map_err(crypto)?;
        let ordered = pending.insert(Pending {
            url: order.url().to_owned(),
            key,
            request,
            resumes: 0,
            is_invalid: false,
        });
        let chain = self.finish(order, &ordered.request, &policy).await;
        ordered.is_invalid = is_invalid(order);
        chain
    }

    /// Goes on with an order of an earlier attempt.
    async fn resume(&self, pending: &mut Pending) -> Result<String, AcmeError> {
        let order = self.account.order(pending.url.clone()).await;
        let mut order = order.map_err(|error| self.failed(error))?;
        let chain = fetch_again(&mut order, &pending.request, &self.policy()).await;
        pending.is_invalid = is_invalid(&mut order);
        chain.map_err(|error| self.failed(error))
    }

    /// Has the authority issue the certificate for `request`, and returns its chain as PEM. If the authority is away meanwhile
    /// it is asked again, since it counts a certificate that nobody has fetched as well.
    async fn finish(
        &self,
        order: &mut Order,
        request: &[u8],
        policy: &RetryPolicy,
    ) -> Result<String, AcmeError> {
        let mut wait = self.config.retry / FETCH_AFTER;
        let mut outcome = match order.finalize_csr(request).await {
            Ok(()) => order.poll_certificate(policy).await,
            Err(error) => Err(error),
        };
        for _ in 0..FETCHES {
            let error = match outcome {
                Ok(chain) => return Ok(chain),
                Err(error) => self.failed(error),
            };
            let AcmeError::Unreachable { source } = &error else {
                return Err(error);
            };
            tracing::debug!(
                error = source.to_string(),
                "the certificate is fetched again"
            );
            rt::sleep(wait).await;
            wait *= 2;
            outcome = fetch_again(order, request, policy).await;
        }
        outcome.map_err(|error| self.failed(error))
    }

    /// Asks in which time the authority wants the certificate `id` to be renewed. Returns that time, and the wait until the
    /// next question.
    ///
    /// # Errors
    ///
    /// Fails if it does not say so.
    pub(super) async fn window(
        &self,
        id: &CertificateIdentifier<'_>,
    ) -> Result<(Window, Duration), AcmeError> {
        let answer = self.account.renewal_info(id).await;
        let (info, again) = answer.map_err(|error| self.failed(error))?;
        let unix = |time: i64| Duration::from_secs(u64::try_from(time).unwrap_or(0));
        let window = Window {
            start: unix(info.suggested_window.start.unix_timestamp()),
            end: unix(info.suggested_window.end.unix_timestamp()),
        };
        Ok((window, again))
    }

    /// Creates the order. If the authority does not know the account any more, it creates that before.
    async fn order(
        &mut self,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<Order, Failed> {
        let identifiers: Vec<_> = self.config.names.iter().map(AcmeName::identifier).collect();
        loop {
            let mut order = NewOrder::new(&identifiers);
            let profile = self.profile();
            if let Some(profile) = &profile {
                order = order.profile(profile);
            }
            if let Some(replaces) = &replaces {
                order = order.replaces(replaces.clone());
            }
            match self.account.new_order(&order).await {
                Ok(order) => return Ok(order),
                Err(instant_acme::Error::Api(problem))
                    if is_no_account(&problem) && self.is_from_file =>
                {
                    tracing::warn!(
                        "the certificate authority does not know the account any more, creating another one"
                    );
                    self.account = create(self.config, self.files, &self.client).await?;
                    self.is_from_file = false;
                }
                Err(error) if self.is_from_file => return Err(self.of_account(error).into()),
                Err(error) => return Err(self.failed(error).into()),
            }
        }
    }

    fn profile(&self) -> Option<String> {
        let has_ip = self.config.names.iter().any(|name| name.ip().is_some());
        let mut offered = self.account.profiles();
        let is_default = has_ip && offered.any(|profile| profile.name == SHORT_LIVED);
        let default = is_default.then(|| SHORT_LIVED.to_owned());
        self.config.profile.clone().or(default)
    }

    /// Answers the validations of an order until the returned values are dropped, and tells the authority so.
    async fn answer(
        &self,
        order: &mut Order,
        identity: &TlsIdentity,
    ) -> Result<Vec<TlsValidation>, AcmeError> {
        let mut validations = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.failed(error))?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let shown = authorization.identifier().to_string();
            // An authority cannot have anything answered that was not ordered.
            let name = self
                .config
                .names
                .iter()
                .find(|name| authorization.identifier().identifier == &name.identifier());
            let name = name.ok_or_else(|| AcmeError::Malformed {
                reason: "it validates a name that was not ordered".to_owned(),
            })?;
            let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
            let mut challenge = challenge.ok_or(AcmeError::NoChallenge { name: shown })?;
            let digest = challenge.key_authorization().digest();
            let (certificate, key) = proof(name, digest.as_ref()).map_err(crypto)?;
            let answered =
                identity.answer_validation(&name.in_handshake(), certificate.as_bytes(), &key);
            validations.push(answered.map_err(crypto)?);
            let told = challenge.set_ready().await;
            told.map_err(|error| self.failed(error))?;
        }
        Ok(validations)
    }

    /// Returns the error of an order that has become invalid: which name could not be validated, and why.
    async fn diagnose(
        &self,
        order: &mut Order,
        problem: Option<instant_acme::Problem>,
    ) -> AcmeError {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if authorization.refresh().await.is_err() {
                break;
            }
            let errors = authorization.challenges.iter();
            if let Some(error) = errors
                .filter_map(|challenge| challenge.error.as_ref())
                .next()
            {
                let (problem, detail) = described(error);
                return AcmeError::Validation {
                    name: authorization.identifier().to_string(),
                    problem,
                    detail,
                };
            }
        }
        match problem {
            Some(problem) => AcmeError::of_problem(&problem, self.client.retry_after()),
            None => AcmeError::Malformed {
                reason: "the order is invalid, and nothing says why".to_owned(),
            },
        }
    }

    /// Returns the error of a request that depends on nothing but the account in the file.
    fn of_account(&self, error: instant_acme::Error) -> AcmeError {
        match self.failed(error) {
            AcmeError::Refused { problem, detail } if problem == UNAUTHORIZED => {
                AcmeError::AccountRefused {
                    file: self.files.account.clone(),
                    problem,
                    detail,
                }
            }
            other => other,
        }
    }

    fn failed(&self, error: instant_acme::Error) -> AcmeError {
        match error {
            // It works on the order, and asks to wait for longer than an attempt may take.
            instant_acme::Error::Timeout(Some(at)) => AcmeError::Unavailable {
                reason: "it is still working on the order".to_owned(),
                retry_after: Some(at.saturating_duration_since(Instant::now().into_std())),
            },
            instant_acme::Error::Timeout(None) => AcmeError::Timeout {
                after: self.config.order_timeout,
            },
            error => failed(error, &self.client),
        }
    }
}

/// Goes on with an order whose request for the certificate may or may not have arrived.
async fn fetch_again(
    order: &mut Order,
    request: &[u8],
    policy: &RetryPolicy,
) -> Result<String, instant_acme::Error> {
    let state = order.refresh().await?;
    if state.status == OrderStatus::Ready {
        order.finalize_csr(request).await?;
    }
    order.poll_certificate(policy).await
}

/// Returns whether an order was invalid when the authority has last told its status. It stays so.
fn is_invalid(order: &mut Order) -> bool {
    order.state().status == OrderStatus::Invalid
}

async fn create(config: &AcmeConfig, files: &Files, client: &Client) -> Result<Account, Failed> {
    let contact: Vec<_> = config.contact.iter().map(String::as_str).collect();
    let account = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let external = config.external_account.as_ref();
    let external = external.map(|it| ExternalAccountKey::new(it.key_id.clone(), &it.key));
    let builder = Account::builder_with_http(Box::new(client.clone()));
    let created = builder.create(&account, config.directory.clone(), external.as_ref());
    let (account, credentials) = created.await.map_err(|error| {
        let error = failed(error, client);
        match external {
            Some(_) => error.of_binding(),
            None => error,
        }
    })?;
    let contact = config.contact.clone();
    let file = store::Account {
        contact,
        credentials,
    };
    let saved = files.save_account(&file).await;
    saved.map_err(Failed::counted)?;
    Ok(account)
}

fn failed(error: instant_acme::Error, client: &Client) -> AcmeError {
    AcmeError::of_library(error, client.retry_after())
}

fn is_no_account(problem: &instant_acme::Problem) -> bool {
    problem.r#type.as_deref() == Some(NO_ACCOUNT)
}

/// Copies what cannot be cloned.
fn copy(
    credentials: &instant_acme::AccountCredentials,
) -> Result<instant_acme::AccountCredentials, AcmeError> {
    let text = serde_json::to_vec(credentials).map(Zeroizing::new);
    let copied = text.and_then(|text| serde_json::from_slice(&text));
    copied.map_err(crypto)
}

/// Returns a key as PEM, and the request for a certificate for it in DER.
fn request(names: &[AcmeName]) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), rcgen::Error> {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate()?;
    let request = params.serialize_request(&key)?;
    Ok((
        Zeroizing::new(key.serialize_pem().into_bytes()),
        request.der().to_vec(),
    ))
}

/// Returns the certificate that proves control over a name, and its key, as PEM (RFC 8737, section 3).
fn proof(name: &AcmeName, digest: &[u8]) -> Result<(String, Zeroizing<Vec<u8>>), rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_string()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((
        certificate.pem(),
        Zeroizing::new(key.serialize_pem().into_bytes()),
    ))
}

fn crypto(error: impl std::error::Error) -> AcmeError {
    AcmeError::Crypto {
        reason: error.to_string(),
    }
}
