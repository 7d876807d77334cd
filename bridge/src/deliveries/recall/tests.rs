use std::sync::Arc;

use reveille_proto::ids::{AppId, MessageId};
use serde_json::json;

use super::*;
use crate::devices;
use crate::messages::Extent;
use crate::store::Store;
use crate::tokens;
use crate::vendor::DeviceToken;

#[tokio::test]
async fn a_vendor_is_asked_only_where_the_place_on_the_screen_is_the_message_s_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
    let test = |tx: &mut Tx<'_>| {
        let app = AppId::default();
        let mut device = devices::load_or_new(tx, &app, "d1")?;
        for vendor in [VendorName::Harmony, VendorName::Record] {
            let token = DeviceToken::parse("T-d1").unwrap();
            tokens::register(tx, &app, &mut device, vendor, token, Default::default())?;
        }
        devices::save(tx, &app, &device)?;
        let plain = Message {
            recalled_at_ms: Some(1),
            recalled: Extent::All,
            ..Message::unknown(&app, MessageId([7; 16]), 1)
        };
        let keyed = Message { collapse_key: Some("k".to_owned()), ..plain.clone() };
        let replaced = Message { is_replaced: true, ..plain.clone() };
        let mut chosen = plain.clone();
        let place = json!({"payload": {"notification": {"notifyId": 7}}});
        chosen.overrides.insert(VendorName::Harmony, place);
        let (harmony, record) = (VendorName::Harmony, VendorName::Record);
        for (message, vendor, digest_of, wanted) in [
            (&plain, harmony, None, Outcome::Waiting),
            (&plain, harmony, Some(3), Outcome::NotOffered),
            (&keyed, harmony, None, Outcome::NotOffered),
            (&replaced, harmony, None, Outcome::NotOffered),
            (&chosen, harmony, None, Outcome::NotOffered),
            (&chosen, record, None, Outcome::Waiting),
        ] {
            let mut case = Case::load(tx, message, "d1")?;
            case.delivery.facts.push = Push::Accepted(vendor);
            case.delivery.digest_of = digest_of;
            case.take_back(tx)?;
            let outcome = case.delivery.recall.map(|recall| recall.outcome);
            assert_eq!(outcome, Some(wanted), "{:?}", case.delivery.timeline);
        }
        Ok::<_, StoreError>(())
    };
    store.write(test).await.unwrap();
}
