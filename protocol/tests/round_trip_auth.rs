//! Whatever can be said of users, roles and tokens comes back from its bytes, and nothing shorter does.

use bytes::{Bytes, BytesMut};
use kvorum_protocol::codec::Reader;
use kvorum_protocol::{
    AuthRequest, AuthVerb, AuthView, ClusterClasses, Epoch, Grant, KeyClasses, Request, RequestBody, RequestId,
    Response, ResponseBody, RoleView, TokenView, UserLimits, UserTokenId, UserView,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=most).prop_map(Bytes::from)
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9-]{1,20}"
}

fn names() -> impl Strategy<Value = Vec<String>> {
    vec(name(), 0..4)
}

fn key_classes() -> impl Strategy<Value = KeyClasses> {
    (0..=KeyClasses::ALL.0).prop_map(KeyClasses)
}

fn cluster_classes() -> impl Strategy<Value = ClusterClasses> {
    (0..=ClusterClasses::ALL.0).prop_map(ClusterClasses)
}

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    vec((bytes(20), key_classes()).prop_map(|(prefix, classes)| Grant { prefix, classes }), 0..4)
}

fn serial() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..=20).prop_map(Bytes::from)
}

fn verb() -> impl Strategy<Value = AuthVerb> {
    prop_oneof![
        (name(), any::<Option<bool>>(), option::of("[a-z]{0,40}"), option::of(names()), any::<Option<bool>>())
            .prop_map(|(name, exists, verifier, roles, disabled)| AuthVerb::PutUser {
                name,
                exists,
                verifier,
                roles,
                disabled
            }),
        name().prop_map(AuthVerb::RemoveUser),
        (name(), grants(), cluster_classes()).prop_map(|(name, grants, cluster)| AuthVerb::PutRole {
            name,
            grants,
            cluster
        }),
        name().prop_map(AuthVerb::RemoveRole),
        (any::<u64>(), name(), option::of(names()), any::<[u8; 32]>(), any::<Option<u64>>()).prop_map(
            |(id, user, roles, digest, expires_at_ms)| {
                AuthVerb::AddToken { id: UserTokenId(id), user, roles, digest, expires_at_ms }
            }
        ),
        any::<u64>().prop_map(|id| AuthVerb::RemoveToken(UserTokenId(id))),
        (serial(), any::<bool>()).prop_map(|(serial, denied)| AuthVerb::Deny { serial, denied }),
        (name(), any::<(u32, u64, u32)>()).prop_map(|(name, (requests_per_s, bytes_per_s, connections))| {
            AuthVerb::Limit { name, limits: UserLimits { requests_per_s, bytes_per_s, connections } }
        }),
    ]
}

fn view() -> impl Strategy<Value = AuthView> {
    let user = (name(), any::<bool>(), any::<bool>(), names()).prop_map(|(name, has_password, disabled, roles)| {
        let limits =
            UserLimits { requests_per_s: name.len() as u32, bytes_per_s: u64::from(disabled) << 40, connections: 7 };
        UserView { name, has_password, disabled, roles, limits }
    });
    let role = (name(), any::<bool>(), grants(), cluster_classes())
        .prop_map(|(name, built_in, grants, cluster)| RoleView { name, built_in, grants, cluster });
    let token = (any::<u64>(), name(), option::of(names()), any::<Option<u64>>())
        .prop_map(|(id, user, roles, expires_at_ms)| TokenView { id: UserTokenId(id), user, roles, expires_at_ms });
    (any::<u64>(), any::<bool>(), vec(user, 0..4), vec(role, 0..4), vec(token, 0..4), vec(serial(), 0..4)).prop_map(
        |(epoch, required, users, roles, tokens, denied)| AuthView { epoch, required, users, roles, tokens, denied },
    )
}

fn auth_request() -> impl Strategy<Value = AuthRequest> {
    prop_oneof![
        bytes(200).prop_map(AuthRequest::Token),
        bytes(200).prop_map(AuthRequest::Scram),
        bytes(200).prop_map(AuthRequest::Proof),
    ]
}

proptest! {
    #[test]
    fn verbs_come_back(verb in verb()) {
        let mut out = BytesMut::new();
        verb.encode(&mut out);
        let all = out.freeze();
        let mut reader = Reader::new(all.clone());
        prop_assert_eq!(AuthVerb::decode(&mut reader), Ok(verb));
        prop_assert_eq!(reader.finish(), Ok(()));
        for cut in 0..all.len() {
            prop_assert!(AuthVerb::decode(&mut Reader::new(all.slice(..cut))).is_err());
        }
    }

    #[test]
    fn requests_come_back(auth in auth_request()) {
        let request = Request { id: RequestId(1), deadline_ms: 0, body: RequestBody::Auth(auth) };
        let mut out = BytesMut::new();
        request.encode_body(&mut out);
        prop_assert_eq!(Request::decode(out.freeze()), Ok(request));
    }

    #[test]
    fn views_come_back(view in view()) {
        let response =
            Response { id: RequestId(1), epoch: Epoch(2), forwarded: false, body: ResponseBody::AuthView(Box::new(view)) };
        let mut out = BytesMut::new();
        response.encode_body(&mut out);
        let all = out.freeze();
        prop_assert_eq!(Response::decode(all.clone()), Ok(response));
        for cut in 0..all.len() {
            prop_assert!(Response::decode(all.slice(..cut)).is_err());
        }
    }
}

#[test]
fn classes_that_nobody_knows_are_refused() {
    let mut out = BytesMut::new();
    AuthVerb::PutRole { name: "r".to_owned(), grants: Vec::new(), cluster: ClusterClasses(1 << 15) }.encode(&mut out);
    assert!(AuthVerb::decode(&mut Reader::new(out.freeze())).is_err());
}
