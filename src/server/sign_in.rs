//! Signing an account in with OAuth, and refreshing one by hand (contract sections 12.6 to 12.8).

use super::Server;
use super::call::{Answer, Call};
use super::dialect::{invalid, plain, said, titled};
use super::session::Admin;
use crate::claude::oauth::{self, Grant, Unreadable};
use crate::error::{Error, Kind};
use crate::model::Proxy;
use crate::model::proxy::MASK;
use crate::model::time::now_ms;
use serde_json::{Value, json};

type Outcome = Result<Answer, Answer>;

/// What the admin does with the address, as the original's page shows it.
const INSTRUCTIONS: [&str; 5] = [
    "1. 复制上面的链接到浏览器中打开",
    "2. 登录您的 Anthropic 账户",
    "3. 同意应用权限",
    "4. 复制浏览器地址栏中的完整 URL",
    "5. 在添加账户表单中粘贴完整的回调 URL 和授权码",
];

/// `POST /admin/claude-accounts/generate-auth-url`.
pub(crate) fn generate(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let proxy = match call.member("proxy") {
        None | Some(Value::Bool(false)) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(value) => {
            let proxy = Proxy::from_json(&value.to_string(), None);
            Some(proxy.map_err(|wrong| said(400, &Error::saying(Kind::Invalid, wrong)))?)
        }
    };
    let session = server.store.begin_sign_in(proxy).map_err(titled("Failed to generate OAuth URL"))?;
    let challenge = oauth::challenge(session.verifier.expose());
    let url = oauth::authorize_url(&server.config.oauth_authorize_url, &challenge, &session.state);
    log::info!("{} began to sign an account in", admin.username);
    Ok(Answer::data(json!({ "authUrl": url, "sessionId": session.id, "instructions": INSTRUCTIONS })))
}

/// `POST /admin/claude-accounts/exchange-code`. The tokens go to the page, which makes an account of them.
pub(crate) fn exchange(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let failed = |error: Error| titled("Failed to exchange authorization code")(error);
    let is_set = |value: &&Value| !matches!(value, Value::Bool(false)) && value.as_str() != Some("");
    let given = |name: &str| call.member(name).filter(is_set);
    let (Some(id), Some(input)) = (given("sessionId"), given("callbackUrl").or_else(|| given("authorizationCode")))
    else {
        return Err(invalid("Session ID and authorization code (or callback URL) are required"));
    };
    let session = match id.as_str() {
        Some(id) => server.store.oauth_session(id).map_err(failed)?,
        None => None,
    };
    let session = session.ok_or_else(|| invalid("Invalid or expired OAuth session"))?;
    if now_ms() > session.expires_at_ms {
        server.store.end_sign_in(&session.id).map_err(failed)?;
        return Err(invalid("OAuth session has expired, please generate a new authorization URL"));
    }
    let unreadable = |message| plain(400, "Failed to parse authorization input", message);
    let pasted = oauth::read_pasted(input.as_str().unwrap_or_default());
    let pasted = pasted.map_err(|reason| unreadable(words(reason)))?;
    if !pasted.fits(&session.state) {
        log::warn!("a pasted code belongs to another sign-in");
        return Err(unreadable("授权码与当前会话不匹配 (state 参数不一致)，请使用最新生成的授权链接"));
    }
    let grant = server.relay.exchange_code(&session, &pasted).map_err(failed)?;
    server.store.end_sign_in(&session.id).map_err(failed)?;
    log::info!("{} signed an account in", admin.username);
    Ok(Answer::data(json!({ "claudeAiOauth": granted(&grant) })))
}

fn words(reason: Unreadable) -> &'static str {
    match reason {
        Unreadable::Empty => "请提供有效的授权码或回调 URL",
        Unreadable::UrlWithoutCode => "回调 URL 中未找到授权码 (code 参数)",
        Unreadable::BadUrl => "无效的 URL 格式，请检查回调 URL 是否正确",
        Unreadable::Length => "授权码格式无效，请确保复制了完整的 Authorization Code",
        Unreadable::Characters => "授权码包含无效字符，请检查是否复制了正确的 Authorization Code",
    }
}

fn granted(grant: &Grant) -> Value {
    let end = |seconds: i64| (now_ms() / 1000).saturating_add(seconds).saturating_mul(1000);
    let scopes = match grant.scopes.as_slice() {
        [] => oauth::DEFAULT_SCOPES.map(str::to_owned).to_vec(),
        scopes => scopes.to_vec(),
    };
    json!({
        "accessToken": grant.access_token,
        "refreshToken": grant.refresh_token.as_deref().unwrap_or_default(),
        "expiresAt": grant.expires_in_s.map(end),
        "scopes": scopes,
        "isMax": true,
    })
}

/// `POST /admin/claude-accounts/:accountId/refresh`. The original answered with the token; here it is masked.
pub(crate) fn refresh(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let title = "Failed to refresh token";
    let pair = server.relay.refresh_account(call.id()).map_err(|error| match error.kind() {
        // The admin asks and the admin must act: no failure of this program.
        Kind::NoAccount => plain(400, title, error.message()),
        _ => titled(title)(error),
    })?;
    let name = server.store.account_by_id(call.id()).map(|account| account.name.clone()).unwrap_or_default();
    log::info!("{} refreshed account {name:?} (id {:?})", admin.username, call.id());
    Ok(Answer::data(json!({
        "success": true,
        "accessToken": MASK,
        "expiresAt": pair.expires_at_ms.map(|at| at.to_string()).unwrap_or_default(),
    })))
}
