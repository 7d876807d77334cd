//! The errors of both HTTP APIs: numbers that stay, for people and programs. `docs/errors.md` says cause and remedy.

macro_rules! errors {
    ($($name:ident = $number:literal $code:literal $status:literal $retryable:literal $title:literal;)*) => {
        /// Every error of the API. Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is described by its title below")]
        pub enum Errno {
            $($name,)*
        }

        impl Errno {
            /// Every error, in order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number that stays.
            pub fn number(self) -> u16 {
                match self {
                    $(Self::$name => $number,)*
                }
            }

            /// The name that stays.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            /// Whether the same request can succeed later without a change.
            pub fn is_retryable(self) -> bool {
                match self {
                    $(Self::$name => $retryable,)*
                }
            }

            /// What it is, for people. May be worded better some day.
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }
        }
    };
}

errors! {
    MalformedJson = 1001 "malformed_json" 400 false "The body is not JSON";
    InvalidField = 1002 "invalid_field" 422 false "A field is not what it should be";
    BodyTooLarge = 1003 "body_too_large" 413 false "The body is too large";
    RequestTimeout = 1004 "request_timeout" 408 true "The request took too long";
    InvalidQuery = 1005 "invalid_query" 400 false "A query parameter is not what it should be";
    InvalidIdempotencyKey = 1006 "invalid_idempotency_key" 400 false
        "Idempotency-Key has 1 to 255 printable characters";
    ReceiptMalformed = 1007 "receipt_malformed" 400 false "The receipt is not in the vendor's form";
    InvalidCursor = 1008 "invalid_cursor" 400 false "The cursor is none, or of an earlier run of the broker";
    InvalidPath = 1009 "invalid_path" 400 false "A part of the path is not what it should be";
    ConfirmationMissing = 1010 "confirmation_missing" 400 false "What cannot be undone asks for a confirmation";
    KeyMissing = 2001 "key_missing" 401 false "No API key";
    KeyWrong = 2002 "key_wrong" 401 false "The API key is unknown or wrong";
    KeyForbidden = 2003 "key_forbidden" 403 false "The API key does not open this";
    TooManyWrongKeys = 2004 "too_many_wrong_keys" 429 true "Too many wrong API keys";
    ReceiptRefused = 2005 "receipt_refused" 403 false "The receipt is not believed";
    AdminOff = 2006 "admin_off" 403 false "The broker has no admin keys, so this API is off";
    TooManyRequests = 2007 "too_many_requests" 429 true "The API key asks too often";
    AppUnknown = 3001 "app_unknown" 404 false "No such app";
    DeviceUnknown = 3002 "device_unknown" 404 false "No such device";
    MessageUnknown = 3003 "message_unknown" 404 false "No such message";
    DeliveryUnknown = 3004 "delivery_unknown" 404 false "The message was not for this device";
    CredentialUnknown = 3005 "credential_unknown" 404 false "No credential at this vendor";
    VendorUnknown = 3006 "vendor_unknown" 404 false "No such vendor";
    PathUnknown = 3007 "path_unknown" 404 false "No such path";
    MethodNotAllowed = 3008 "method_not_allowed" 405 false "The path has no such method";
    KeyUnknown = 3009 "key_unknown" 404 false "No such key in this app";
    OperationUnknown = 3010 "operation_unknown" 404 false "No such operation";
    WebhookUnknown = 3020 "webhook_unknown" 404 false "No such webhook";
    SegmentUnknown = 3030 "segment_unknown" 404 false "No such segment";
    AliasUnknown = 3031 "alias_unknown" 404 false "No device has this alias";
    TemplateUnknown = 3040 "template_unknown" 404 false "No such template";
    ScheduleUnknown = 3041 "schedule_unknown" 404 false "No such schedule";
    PolicyUnknown = 3050 "policy_unknown" 404 false "No such policy";
    ImportUnknown = 3060 "import_unknown" 404 false "No such upload";
    ExportUnknown = 3061 "export_unknown" 404 false "No such export, or it is over";
    SessionUnknown = 3101 "session_unknown" 404 false "No such session";
    NotConnected = 3102 "not_connected" 404 false "The session has no connection";
    RetainedUnknown = 3103 "retained_unknown" 404 false "The topic has no retained message";
    BanUnknown = 3104 "ban_unknown" 404 false "No such ban";
    TraceUnknown = 3105 "trace_unknown" 404 false "No such trace";
    TopicUnknown = 3106 "topic_unknown" 404 false "The topic has neither a retained message nor a history";
    NoHistory = 3107 "no_history" 404 false "No history is kept of this topic";
    AppExists = 4001 "app_exists" 409 false "The app exists";
    TooManyApps = 4002 "too_many_apps" 409 false "No further app fits";
    IdempotencyMismatch = 4003 "idempotency_mismatch" 422 false "The Idempotency-Key was used for another request";
    RequestRunning = 4004 "request_running" 409 true "The request with this Idempotency-Key is under way";
    RequestInterrupted = 4005 "request_interrupted" 409 false
        "It is not known what became of the request with this Idempotency-Key";
    MessageOver = 4006 "message_over" 409 false "The message can no longer be changed";
    KeyExists = 4009 "key_exists" 409 false "A key of this id exists";
    TooManyCredentials = 4010 "too_many_credentials" 409 false "No further credential fits at this vendor";
    TooManyWebhooks = 4020 "too_many_webhooks" 409 false "No further webhook fits";
    VendorRefused = 4021 "vendor_refused" 422 false "The vendor refuses it";
    PreconditionFailed = 4030 "precondition_failed" 412 false "The record is in another state than If-Match says";
    SegmentInUse = 4031 "segment_in_use" 409 false "Another segment names it";
    TooManySegments = 4032 "too_many_segments" 409 false "No further segment fits";
    TemplateInUse = 4040 "template_in_use" 409 false "A schedule uses it";
    TooManyTemplates = 4041 "too_many_templates" 409 false "No further template fits";
    TooManySchedules = 4042 "too_many_schedules" 409 false "No further schedule fits";
    TooManyPolicies = 4050 "too_many_policies" 409 false "No further policy fits";
    CategoryTaken = 4051 "category_taken" 409 false "Another policy has this category";
    TooManyImports = 4060 "too_many_imports" 409 true "Too many uploads wait";
    TooManyExports = 4061 "too_many_exports" 409 true "Too many exports are kept";
    ExportRunning = 4062 "export_running" 409 true "The export is not whole yet";
    TooManyDownloads = 4063 "too_many_downloads" 429 true "Too many files are fetched already";
    TooManyReaders = 4090 "too_many_readers" 429 true "Too many read events already";
    BrokersOwn = 4101 "brokers_own" 409 false "It belongs to the bridge, without which nothing is pushed";
    TooManyBans = 4102 "too_many_bans" 409 false "No further ban fits";
    QueuesFull = 4103 "queues_full" 409 true "No receiver's queue has room, or the store takes no writes";
    ReloadRefused = 4104 "reload_refused" 409 false "The configuration file cannot be used";
    Draining = 4105 "draining" 409 false "The broker empties itself already";
    TooManyStreams = 4106 "too_many_streams" 429 true "No further stream fits";
    StoreFailed = 5001 "store_failed" 503 true "The store does not take it";
    Stopping = 5002 "stopping" 503 true "The server stops";
    NotOffered = 5003 "not_offered" 501 false "This program does not offer it";
    BrokerAway = 5004 "broker_away" 503 true "The broker does not answer";
    BrokerFailed = 5005 "broker_failed" 502 true "The broker does not answer as it should";
    VendorFailed = 5020 "vendor_failed" 502 true "The vendor cannot be asked";
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn every_error_has_its_own_number_and_a_row_in_the_document() {
        let document = include_str!("../../docs/errors.md");
        for pair in Errno::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number(), "{pair:?}");
        }
        for errno in Errno::ALL {
            let row = format!("| {} | `{}` | {} |", errno.number(), errno.code(), errno.status());
            assert!(document.contains(&row), "docs/errors.md lacks {row}");
        }
    }
}
