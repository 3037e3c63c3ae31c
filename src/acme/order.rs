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
use super::error::{AcmeError, described};
use super::http::Client;
use super::name::AcmeName;
use super::schedule::Window;
use super::store::{self, Files};
use crate::tcp::{TlsIdentity, TlsValidation};

/// The profile of the certificates that public authorities issue for IP addresses.
const SHORT_LIVED: &str = "shortlived";
/// The wait before the authority is asked for the first time how far it is, and by which it grows. It may ask for longer ones.
const POLL: (Duration, f32) = (Duration::from_millis(250), 1.5);
/// The type of the problem of an account that the authority does not know.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

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
    /// Fails if the authority cannot be reached, refuses an account, or if the file cannot be written.
    pub(super) async fn open(config: &'a AcmeConfig, files: &'a Files) -> Result<Self, AcmeError> {
        let client = Client::new(config.roots.clone(), config.request_timeout).await;
        let client = client.map_err(|error| AcmeError::of_request(error, None))?;
        if let Some(file) = files.account().await {
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
            Err(error) => Err(self.failed(error)),
            Ok(()) => {
                file.contact.clone_from(&self.config.contact);
                self.files.save_account(&file).await
            }
        }
    }

    /// Orders a certificate, and returns its key and its chain as PEM. `identity` answers the validations. `replaces` names
    /// the certificate before it, if the authority knows that one.
    ///
    /// # Errors
    ///
    /// Fails if the authority cannot be reached, refuses the order, or cannot validate a name.
    pub(super) async fn obtain(
        &mut self,
        identity: &TlsIdentity,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<Zeroizing<Vec<u8>>, AcmeError> {
        let mut order = self.order(replaces).await?;
        let validations = self.answer(&mut order, identity).await?;
        let policy = RetryPolicy::new()
            .initial_delay(POLL.0)
            .backoff(POLL.1)
            .timeout(self.config.order_timeout);
        if !matches!(
            order.state().status,
            OrderStatus::Ready | OrderStatus::Valid
        ) {
            match order.poll_ready(&policy).await {
                Ok(OrderStatus::Ready) => {}
                Ok(_) => return Err(self.diagnose(&mut order, None).await),
                Err(instant_acme::Error::Api(problem)) => {
                    return Err(self.diagnose(&mut order, Some(problem)).await);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        drop(validations);

        let (key, request) = request(&self.config.names).map_err(crypto)?;
        let finalized = order.finalize_csr(&request).await;
        finalized.map_err(|error| self.failed(error))?;
        let chain = order.poll_certificate(&policy).await;
        let chain = chain.map_err(|error| self.failed(error))?;
        let mut pem = key;
        pem.extend_from_slice(chain.as_bytes());
        Ok(pem)
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
    ) -> Result<Order, AcmeError> {
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
                Err(error) => return Err(self.failed(error)),
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

    fn failed(&self, error: instant_acme::Error) -> AcmeError {
        match error {
            instant_acme::Error::Timeout(_) => AcmeError::Timeout {
                after: self.config.order_timeout,
            },
            error => failed(error, &self.client),
        }
    }
}

async fn create(config: &AcmeConfig, files: &Files, client: &Client) -> Result<Account, AcmeError> {
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
    let (account, credentials) = created.await.map_err(|error| failed(error, client))?;
    let contact = config.contact.clone();
    let file = store::Account {
        contact,
        credentials,
    };
    files.save_account(&file).await?;
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
