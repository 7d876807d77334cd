//! A program that serves: what its command line and its file say, now and when the file is read again.

use crate::config::{Common, ConfigError, File};
use crate::failure::Failure;
use crate::logging::{self, Log, LogFormat};
use reveille_bridge::Certificates;
use reveille_broker::{Broker, LogFilterError, Operator, Program, ReloadError, ReloadReport};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// What decided how the program runs, and what of it may be decided anew.
pub struct Serving {
    common: Common,
    log: Log,
    data_dir: PathBuf,
    log_format: LogFormat,
    bridge: reveille_bridge::Config,
    certificates: Arc<OnceLock<Certificates>>,
}

/// Reads the file and starts the log.
///
/// # Errors
/// [`Failure`] names what cannot be used.
pub fn start(common: Common) -> Result<(Serving, File), Failure> {
    let file = File::load(common.config.as_deref())?;
    let log_format = common.log_format.or(file.log_format).unwrap_or_default();
    let log = logging::start(common.log.as_deref().or(file.log.as_deref()), log_format)?;
    let data_dir = file.data_dir(common.data_dir.clone());
    let (bridge, certificates) = (file.bridge.clone(), Arc::default());
    Ok((Serving { common, log, data_dir, log_format, bridge, certificates }, file))
}

impl Serving {
    /// Where everything is kept.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// Where the certificates of the bridge's HTTP are put once it runs, so that a reload finds them.
    pub fn certificates(&self) -> Arc<OnceLock<Certificates>> {
        Arc::clone(&self.certificates)
    }

    /// Reads the certificate of the bridge's HTTP listener before anything starts; for programs with a bridge.
    ///
    /// # Errors
    /// [`Failure::Config`] names the file.
    pub fn check_certificate(&self) -> Result<(), Failure> {
        Ok(File::check_certificate(&self.bridge, self.common.config.as_deref())?)
    }

    /// From now on the broker can ask for the file and for another log filter. `complete` puts the flags into the
    /// broker's table, as at the start.
    pub fn follow(
        self,
        broker: &Broker,
        complete: impl Fn(&mut reveille_broker::Config) + Send + Sync + 'static,
    ) {
        let (log, same_log) = (self.log.clone(), self.log.clone());
        broker.operator().set_program(Program {
            reload: Box::new(move |operator| self.reload(operator, &complete)),
            set_log: Box::new(move |filter| log.set(filter).map_err(unreadable)),
            log: Box::new(move || same_log.filter()),
        });
    }

    /// All or nothing: the whole file is checked before anything changes.
    fn reload(
        &self,
        operator: &Operator,
        complete: &impl Fn(&mut reveille_broker::Config),
    ) -> Result<ReloadReport, ReloadError> {
        if self.common.config.is_none() {
            return Err(ReloadError::NoFile);
        }
        let mut file = File::load(self.common.config.as_deref())
            .map_err(|error: ConfigError| ReloadError::File(error.to_string()))?;
        let renewed = match self.certificates.get() {
            Some(certificates) => certificates.read_again().map_err(refused)?,
            None => None,
        };
        complete(&mut file.broker);
        let filter = self.common.log.as_deref().or(file.log.as_deref());
        let before = self.log.filter();
        self.log.follow(filter).map_err(|failure| ReloadError::File(failure.to_string()))?;
        let mut report = match operator.reload(&file.broker) {
            Ok(report) => report,
            Err(error) => {
                let _ = self.log.set(&before); // it was in force a moment ago
                return Err(error);
            }
        };
        if let Some(renewed) = renewed {
            renewed.put_in_force();
            report.changed.push("bridge.certificate");
        }
        if self.log.filter() != before {
            report.changed.push("log");
        }
        self.name_fixed(&file, &mut report);
        Ok(report)
    }

    fn name_fixed(&self, file: &File, report: &mut ReloadReport) {
        report.fixed("data_dir", file.data_dir(self.common.data_dir.clone()) == self.data_dir);
        let log_format = self.common.log_format.or(file.log_format).unwrap_or_default();
        report.fixed("log_format", log_format == self.log_format);
        report.fixed("bridge", file.bridge == self.bridge);
    }
}

fn refused(error: reveille_bridge::CertificateError) -> ReloadError {
    ReloadError::File(format!("bridge.{error}"))
}

fn unreadable(failure: Failure) -> LogFilterError {
    LogFilterError::Unreadable(failure.to_string())
}
