//! Every text of the console, in English and Chinese, in one table.

use super::visitor::Light;

/// A language of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Chinese,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// The name in cookies and forms.
    pub fn name(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh",
        }
    }

    /// The tag that browsers read.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-Hans",
        }
    }

    /// What it calls itself.
    pub fn own_name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "中文",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::English => Self::Chinese,
            Self::Chinese => Self::English,
        }
    }

    /// A language by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.name() == name)
    }

    /// The first language of an `Accept-Language` that we have, by its weights; English when there is none.
    pub fn accepted(header: &str) -> Self {
        let mut best = (Self::English, 0.0_f32);
        for part in header.split(',') {
            let mut pieces = part.split(';');
            let tag = pieces.next().unwrap_or_default().trim();
            let weight =
                pieces.find_map(|piece| piece.trim().strip_prefix("q=")).and_then(|q| q.parse().ok());
            let weight = weight.unwrap_or(1.0);
            let primary = tag.split('-').next().unwrap_or_default();
            if let Some(language) = Self::from_name(&primary.to_ascii_lowercase())
                && weight > best.1
            {
                best = (language, weight);
            }
        }
        best.0
    }

    /// Its texts.
    pub fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }
}

macro_rules! texts {
    ($($name:ident: $english:literal, $chinese:literal;)*) => {
        /// Every text in one language. `{}` stands for a value.
        pub(super) struct Texts {
            pub language: Language,
            $(pub $name: &'static str,)*
        }

        static ENGLISH: Texts = Texts { language: Language::English, $($name: $english,)* };
        static CHINESE: Texts = Texts { language: Language::Chinese, $($name: $chinese,)* };

        impl Texts {
            /// A text by its name; for what stands in a URL.
            pub fn named(&self, name: &str) -> Option<&'static str> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }
        }

        /// Name, English, Chinese.
        #[cfg(test)]
        const TABLE: &[(&str, &str, &str)] = &[$((stringify!($name), $english, $chinese),)*];
    };
}

impl Texts {
    /// The word for a choice of light.
    pub fn light_name(&self, light: Light) -> &'static str {
        match light {
            Light::System => self.light_system,
            Light::Bright => self.light_light,
            Light::Dark => self.light_dark,
        }
    }

    /// What was done, as the address of a page says it; only names of such texts count.
    pub fn done(&self, name: &str) -> Option<&'static str> {
        Some(name).filter(|name| name.starts_with("done_")).and_then(|name| self.named(name))
    }
}

texts! {
    product: "Reveille", "Reveille";
    colon: ": ", "：";
    language_name: "Language", "语言";
    light: "Light or dark", "明暗";
    light_system: "As the system", "跟随系统";
    light_light: "Light", "浅色";
    light_dark: "Dark", "深色";
    apply: "Apply", "应用设置";
    menu: "Menu", "菜单";
    main_navigation: "Main navigation", "主导航";
    skip_to_content: "Skip to the content", "跳到正文";
    server: "Server", "服务器";
    app: "App", "应用";
    apps: "Apps", "应用";
    people: "People", "人员";
    log_in: "Log in", "登录";
    log_out: "Log out", "退出登录";
    change_password: "Change password", "修改密码";
    cancel: "Cancel", "取消";
    save: "Save", "保存";
    delete: "Delete", "删除";
    remove: "Remove", "移除";
    search: "Search", "搜索";
    filter: "Filter", "筛选";
    order: "Order", "排序";
    all: "All", "全部";
    yes: "Yes", "是";
    no: "No", "否";
    you: "you", "本人";
    copy: "Copy", "复制";
    copied: "Copied", "已复制";
    pages: "Pages", "翻页";
    first_page: "First page", "首页";
    next_page: "Next page", "下一页";
    nothing_found: "Nothing found", "没有找到";
    nothing_found_lead: "Nothing matches. Try fewer or other words.", "没有符合条件的内容，请换个条件再试。";
    not_possible: "That did not work", "操作未完成";
    to_start: "To the overview", "返回概览";

    login_lead: "Push console", "推送控制台";
    person_name: "Name", "用户名";
    login_name_hint: "Leave it empty to log in with a key.", "使用密钥登录时请留空。";
    login_secret: "Key or password", "密钥或密码";
    login_first: "The first start of the server printed a key that opens everything.", "服务器首次启动时会打印一个可打开全部功能的密钥。";
    login_for_tags: "This key is for certain tags only; the console shows everything of an app. Use another key.", "此密钥仅限于特定标签，而控制台会显示应用的全部内容。请使用其他密钥。";
    login_wrong: "Name, key or password is wrong.", "用户名、密钥或密码错误。";
    login_too_many: "Too many wrong tries. Wait a few minutes.", "错误次数过多，请过几分钟再试。";

    overview: "Overview", "概览";
    online: "Online", "在线";
    offline: "Offline", "离线";
    n_online: "{} online", "{} 个在线";
    online_now: "Online now", "当前在线";
    of_n_devices: "of {} devices", "共 {} 台设备";
    messages_24h: "Messages, 24 h", "24 小时消息";
    n_deliveries: "{} deliveries", "{} 次投递";
    reached: "Reached", "触达";
    n_of_n: "{} of {}", "{} / {} 台";
    waiting_for_vendors: "Waiting for vendors", "等待厂商推送";
    oldest_due: "oldest since {}", "最早的已等 {}";
    nothing_late: "nothing is late", "没有积压";
    funnel: "Funnel", "漏斗";
    funnel_24h: "Funnel of the last 24 hours", "最近 24 小时漏斗";
    funnel_empty: "Nothing was sent to anybody yet.", "还没有向任何设备发送。";
    reasons_24h: "Why pushes failed, 24 h", "24 小时失败原因";
    reasons_none: "Nothing was lost.", "没有失败。";
    vendor_health: "Vendors", "厂商状态";
    vendor: "Vendor", "厂商";
    breaker: "State", "状态";
    breaker_open: "Paused: it fails", "熔断中";
    breaker_closed: "Working", "正常";
    waiting: "Waiting", "等待中";
    oldest: "Oldest", "最长等待";
    accepted_24h: "Accepted, 24 h", "24 小时接受";
    refused_24h: "Refused, 24 h", "24 小时拒绝";
    repeated_24h: "Repeated, 24 h", "24 小时重发";
    by_socket: "Over the socket", "长连接送达";
    by_vendor: "By vendors", "厂商送达";
    whole_server: "The whole server", "整个服务器";
    rates_hour: "A second, last hour", "每秒速率（最近一小时）";
    rate_accepted: "accepted", "接收消息";
    rate_acked: "acknowledged", "设备确认";
    rate_pushed: "pushed", "厂商接受";
    rate_refused: "refused", "厂商拒绝";
    online_day: "Online, last 24 hours", "在线设备（24 小时）";
    since_start: "Curves begin at", "曲线起点：";
    newest_messages: "Newest messages", "最新消息";
    all_messages: "All messages", "查看全部消息";
    alarms: "Alarms", "告警";
    alarm_feed: "The push server hears nothing of the broker: presence and acknowledgements wait.", "推送服务与消息服务器断开：在线状态与确认暂停更新。";
    alarm_broker: "The broker takes no clients: it starts, empties itself, or its disk is full.", "消息服务器不接受连接：正在启动、排空或磁盘已满。";
    alarm_breaker: "{} fails again and again: its pushes wait, one at a time tries.", "{} 连续失败：推送等待中，仅逐个试探。";
    alarm_queue: "Pushes for {} wait since {}.", "发往 {} 的推送已等待 {}。";
    alarm_no_credential: "The app has devices, but no credential of a vendor: sleeping devices are not woken.", "应用已有设备，但没有任何厂商凭证：无法唤醒休眠设备。";
    first_steps: "First steps", "快速开始";
    step_credential: "Add the credential of a vendor", "添加厂商凭证";
    step_device: "Register a device", "注册设备";
    step_send: "Send a message", "发送消息";

    messages: "Messages", "消息";
    message: "Message", "消息";
    state: "State", "状态";
    targeted: "Targeted", "目标";
    lost: "Lost", "未达";
    accepted_at: "Accepted", "接收时间";
    data_message: "Data message", "透传消息";
    any_state: "Any state", "全部状态";
    search_messages_hint: "Title, text, campaign, id", "标题、内容、活动、编号";
    search_cut: "Older messages were not looked at. Go to the next page to look further.", "更早的消息尚未搜索，请翻页继续。";
    messages_empty: "No messages yet", "还没有消息";
    messages_empty_lead: "Messages of the API, of MQTT publishers and of this console are shown here.", "API、MQTT 与控制台发送的消息都会显示在这里。";
    message_expanding: "Finding devices", "展开受众";
    message_sending: "On its way", "发送中";
    message_scheduled: "Scheduled", "已定时";
    message_paused: "Paused", "已暂停";
    message_done: "Done", "已完成";
    message_recalled: "Recalled", "已撤回";
    message_cancelled: "Cancelled", "已取消";
    message_failed: "Failed", "失败";
    content: "Content", "内容";
    alert_title: "Title", "标题";
    alert_body: "Text", "正文";
    click_url: "Opens", "点击打开";
    image_url: "Picture", "图片";
    data: "Data", "透传数据";
    strategy: "Strategy", "下发策略";
    origin: "Came by", "来源";
    origin_http: "HTTP API", "HTTP 接口";
    audience: "Audience", "受众";
    all_devices: "All devices", "全部设备";
    audience_subscribers: "Subscribers of the topic", "主题订阅者";
    expires_at: "Expires", "过期时间";
    collapse_key: "Collapse key", "折叠标识";
    campaign: "Campaign", "活动";
    reference: "Reference", "业务编号";
    recalled_at: "Recalled", "撤回时间";
    message_id: "Message id", "消息编号";
    losses: "Losses by reason", "未达原因";
    losses_cut: "Of the first 1,000 devices.", "仅统计前 1,000 台设备。";
    accepted_by: "Accepted", "接受";
    refused_by: "Refused", "拒绝";
    repeated: "Repeated", "重发";
    deliveries_by_device: "By device", "按设备查看";
    deliveries_none: "No device is in this part.", "这一部分没有设备。";
    device: "Device", "设备";
    reason: "Reason", "原因";
    changed_at: "Changed", "更新时间";
    pause: "Pause", "暂停";
    resume: "Go on", "继续";
    recall: "Recall", "撤回";
    recall_warning: "Takes the message out of every queue, sends it to no vendor any more, tells devices to take it away, and asks vendors that can to take it back. This cannot be undone.", "将消息从所有队列移除，不再交给厂商，通知设备移除，并请支持撤回的厂商撤回。此操作不可撤销。";
    clone: "Clone", "复制为新消息";
    bucket_acked: "Acknowledged", "设备确认";
    bucket_vendor_accepted: "Accepted by a vendor", "厂商接受";
    bucket_in_flight: "On its way", "进行中";
    bucket_suppressed: "Not needed", "无需推送";
    bucket_filtered: "Left out", "已过滤";
    bucket_expired: "Expired", "已过期";
    bucket_failed: "Failed", "失败";

    state_targeted: "Belongs to the audience", "属于受众";
    state_filtered: "Left out", "已过滤";
    state_queued: "Waits in the queue", "排队等待";
    state_online_sent: "Sent over the socket", "已通过长连接发送";
    state_online_acked: "Taken over the socket", "已通过长连接收取";
    state_vendor_submitted: "Handed to the vendor", "已提交厂商";
    state_vendor_accepted: "Accepted by the vendor", "厂商已接受";
    state_vendor_delivered: "Delivered by the vendor", "厂商已送达";
    state_shown: "Shown", "已展示";
    state_clicked: "Opened", "已点击";
    state_dismissed: "Put away", "已清除";
    state_expired: "Expired", "已过期";
    state_recalled: "Recalled", "已撤回";
    state_drained: "Push not needed", "无需推送";
    state_cap: "Held back: frequency cap", "频次限制";
    state_quiet: "Held back: quiet hours", "免打扰时段";
    state_failed: "Failed", "失败";
    tried_again: "; tried again", "；将重试";
    waits_for: "for {}", "等待 {}";

    trace_of: "Trace: {}", "轨迹：{}";
    verdict: "Verdict", "结论";
    verdict_acked: "The device took it over its connection.", "设备已通过长连接收取。";
    verdict_shown: "The device showed it.", "设备已展示。";
    verdict_clicked: "The user opened it.", "用户已点击打开。";
    verdict_dismissed: "The user put it away.", "用户已清除通知。";
    verdict_drained: "The device came online and took it, so no vendor was called.", "设备上线后已收取，未调用厂商。";
    verdict_vendor_accepted: "{} accepted it; the device has not confirmed it yet.", "{} 已接受，设备尚未确认。";
    verdict_vendor_delivered: "{} reports that it was delivered.", "{} 回报已送达。";
    verdict_vendor_submitted: "It is being handed to {}.", "正在提交给 {}。";
    verdict_expired: "It expired before anything could deliver it.", "在送达之前已过期。";
    verdict_recalled: "The sender withdrew it.", "发送方已撤回。";
    verdict_failed: "Not delivered: {}.", "未送达：{}。";
    verdict_waits: "It waits for the device.", "正在等待设备。";
    verdict_waits_vendor: "It waits for its turn at {}.", "正在等待 {} 推送。";
    timeline: "Timeline", "时间线";
    timeline_left_out: "{} lines in the middle are left out.", "中间省略了 {} 行。";
    after_n_ms: "+{} ms", "第 {} 毫秒";
    facts: "Facts", "基本信息";
    attempts: "Calls of vendors", "厂商调用次数";
    outcome_unknown: "outcome of a call unknown", "有一次调用结果未知";

    schedules: "Schedules", "定时计划";
    schedules_empty: "No schedules yet", "还没有定时计划";
    schedules_empty_lead: "A schedule sends a message again and again, or once later, to whoever is in its audience then.", "定时计划按时重复（或定时一次）向届时符合条件的受众发送消息。";
    schedule_unnamed: "Without a name", "未命名";
    schedule_active: "Active", "运行中";
    schedule_ended: "Ended", "已结束";
    add_schedule: "New schedule", "新建定时计划";
    remove_schedule_warning: "No further message is sent. Messages that it made stay.", "不再发送后续消息，已生成的消息保留。";
    run_now: "Send now", "立即发送";
    run_now_warning: "Sends the message at once to its whole audience, beside its moments.", "在计划时间之外，立即向全部受众发送一次。";
    last_runs: "Last runs", "最近执行";
    runs_none: "It did not run yet.", "尚未执行。";
    run_by_hand: "By hand", "手动执行";
    runs: "Runs", "执行次数";
    next_run: "Next", "下次执行";
    due_at: "Due", "计划时间";
    from_time: "Not before", "开始时间";
    until_time: "Not after", "结束时间";
    missed: "Missed moments", "错过的时刻";
    missed_run_once: "Made up for once", "补发一次";
    missed_skip: "Left out", "跳过";
    change: "Change", "修改";
    when: "When", "发送时间";
    when_now: "Now", "立即";
    when_later: "Later", "定时";
    when_again: "Again and again", "周期";
    not_before: "Day and time", "日期和时间";
    begins_at: "Begins", "开始时间";
    cron: "Times", "执行规则";
    cron_hint: "Minute, hour, day of the month, month, day of the week.", "分、时、日、月、星期。";
    clock: "Clock", "时钟";
    clock_zone: "Of one time zone", "指定时区";
    clock_recipient: "Each reader's own", "接收者当地时间";
    timezone_hint: "Such as Europe/Berlin; UTC if empty. For readers' own clocks: of devices that name none.", "例如 Asia/Shanghai，留空为 UTC。按接收者当地时间时，用于未上报时区的设备。";
    rate_per_s: "Devices a second", "每秒设备数";
    pace_hint: "At most; empty: as fast as it goes.", "上限，留空为尽快发送。";
    spread_minutes: "Spread over minutes", "分散到分钟数";
    spread_hint: "Evenly over this time.", "在该时长内均匀下发。";
    template: "Template", "模板";
    templates: "Templates", "消息模板";
    template_none: "None: the texts below", "不使用，填写下方文案";
    template_hint: "Gives title and text in every language, filled with the data.", "提供各语言的标题与正文，并用数据填充。";
    templates_empty: "No templates yet", "还没有模板";
    templates_empty_lead: "A template keeps texts in many languages under a name. Messages fill its gaps with their data.", "模板以名称保存多语言文案，消息用自己的数据填充其中的变量。";
    template_version: "Version", "版本";
    template_languages: "Languages", "语言";
    template_language: "Language", "语言";
    template_default: "Default, for every other language", "默认（用于其他所有语言）";
    template_other: "Another language", "其他语言";
    template_name_hint: "Letters, digits, _ - and dots. Saving an existing name makes its next version.", "字母、数字、_、- 和点。保存已有名称会生成新版本。";
    template_sample: "Sample data", "示例数据";
    template_sample_hint: "JSON. Fills the gaps in the preview, and must fill all of them.", "JSON，用于填充预览，须能填满所有变量。";
    add_template: "Save template", "保存模板";
    save_version: "Save as next version", "保存为新版本";
    new_version: "Next version", "新版本";
    send_with_it: "Send with it", "用此模板发送";
    remove_template_warning: "Removes every version. Messages that were sent keep their texts.", "删除全部版本。已发送的消息保留其文案。";
    compose: "Compose", "新建消息";
    compose_title: "New message", "新建消息";
    who: "Who gets it", "发送给谁";
    audience_expr: "Expression", "表达式";
    audience_tags: "Tags", "标签";
    audience_users: "Users", "用户";
    audience_devices: "Devices", "设备";
    audience_all: "Everybody", "所有设备";
    audience_all_warning: "Every device of the app gets this message.", "应用的每一台设备都会收到此消息。";
    expression: "Expression", "受众表达式";
    expression_hint: "Join with & and |, leave out with !. Such as tag, platform, language, city, online.", "用 & 和 | 组合，用 ! 排除。可用 tag、platform、language、city、online 等。";
    tags: "Tags", "标签";
    tags_hint: "Separated by commas.", "用逗号分隔。";
    users: "Users", "用户";
    user: "User", "用户";
    inbox: "Inbox", "收件箱";
    inbox_empty: "Nothing is kept for this user. Messages sent with \"inbox\": true show up here.", "此用户的收件箱为空。发送时带 \"inbox\": true 的消息会显示在这里。";
    inbox_delete: "Delete", "删除";
    inbox_delete_warning: "The message leaves the user's inbox on every device.", "该消息将从此用户所有设备的收件箱中删除。";
    mark_all_read: "Mark all as read", "全部标为已读";
    unread_none: "Everything is read.", "没有未读消息。";
    unread_n: "{} unread.", "{} 条未读。";
    was_read: "read", "已读";
    was_not_read: "unread", "未读";
    sent_at: "Sent", "发送时间";
    read_at: "Read", "阅读时间";
    goes_at: "Goes", "到期时间";
    user_without_device: "No device belongs to this user now.", "目前没有设备属于此用户。";
    done_read: "Marked as read.", "已标为已读。";
    device_ids: "Device ids", "设备编号";
    one_a_line: "One a line, or separated by commas.", "每行一个，或用逗号分隔。";
    delivery: "Delivery", "下发设置";
    strategy_online_first: "Online first, vendor when asleep", "优先长连接，休眠时走厂商";
    strategy_vendor_only: "Vendor only", "仅厂商";
    strategy_online_only: "Online only", "仅长连接";
    strategy_vendor_first: "Vendor first", "优先厂商";
    strategy_both_dedup: "Both at once, shown once", "同时下发，去重展示";
    priority: "Priority", "优先级";
    priority_normal: "Normal", "普通";
    priority_high: "High", "高";
    priority_low: "Low", "低";
    ttl_hours: "Worth something for (hours)", "有效期（小时）";
    ttl_hint: "Empty: as the server is set.", "留空则使用服务器默认值。";
    collapse_hint: "A newer message with this key replaces an older one.", "相同标识的新消息会替换旧消息。";
    category: "Category", "消息分类";
    category_hint: "What the vendors call it, such as EXPRESS.", "厂商的消息分类，例如 EXPRESS。";
    data_hint: "A JSON object for the app.", "交给应用的 JSON 对象。";
    summary: "Summary", "摘要";
    audience_count: "Audience", "受众数量";
    count_hint: "Choose who gets it.", "请选择受众。";
    count_now: "Count", "统计数量";
    counting: "Counting…", "统计中…";
    devices_unit: "devices", "台设备";
    without_token: "Without a token", "无令牌";
    for_example: "For example: {}", "例如：{}";
    shortened: "Too long for it: {}", "超出长度限制：{}";
    preview: "Preview", "预览";
    no_title: "Title", "标题";
    now: "now", "刚刚";
    test_first: "Try it first", "先测试";
    test_device: "Test device", "测试设备";
    test_device_hint: "Only this device gets the test.", "测试消息只发给这台设备。";
    test_device_missing: "Name the device that gets the test.", "请填写测试设备。";
    send_test: "Send a test", "发送测试";
    send_message: "Send", "发送";
    send_hint: "Sending the same form twice makes one message.", "重复提交同一表单只会产生一条消息。";

    devices: "Devices", "设备";
    presence: "Presence", "在线状态";
    platform: "Platform", "平台";
    tokens: "Device tokens", "设备令牌";
    search_devices_placeholder: "phone-1, user:42, tag:vip & online", "phone-1、user:42、tag:vip & online";
    search_devices_hint: "The beginning of an id, or an expression as for an audience.", "设备编号的开头，或受众表达式。";
    devices_empty: "No devices yet", "还没有设备";
    devices_empty_lead: "A device is here once it registers over MQTT or the API. You can register one below.", "设备通过 MQTT 或 API 注册后会出现在这里，也可以在下方注册。";
    register_device: "Register a device", "注册设备";
    register_lead: "For a first try. Apps register themselves with the SDK.", "用于初次试用。正式应用由 SDK 自动注册。";
    device_id: "Device id", "设备编号";
    device_id_hint: "The MQTT client id.", "即 MQTT 客户端标识。";
    device_token: "Device token", "设备令牌";
    no_token: "No token", "没有令牌";
    register: "Register", "注册";
    about: "About", "设备信息";
    aliases: "Aliases", "别名";
    app_version: "App version", "应用版本";
    timezone: "Time zone", "时区";
    first_seen: "First seen", "首次出现";
    never_connected: "It never connected.", "从未连接过。";
    since: "Since", "起始时间";
    epoch: "Epoch", "连接序号";
    keep_alive: "Keep alive", "心跳间隔";
    session_outlives: "Session outlives the connection", "会话保留";
    session_expired: "session expired", "会话已过期";
    for_ever: "for ever", "永久";
    protocol: "Protocol", "协议";
    network: "Network", "网络";
    open_session: "Session at the broker", "查看消息服务器会话";
    tokens_none: "No device token: this device is reached only while it is online.", "没有设备令牌：只有在线时才能触达。";
    registered_at: "Registered", "注册时间";
    token_active: "Active", "有效";
    token_dead: "Dead", "失效";
    token_quarantined: "In quarantine", "隔离中";
    last_deliveries: "Last deliveries", "最近投递";
    last_deliveries_none: "None of the newest 200 messages was for this device.", "最近 200 条消息都没有发给这台设备。";
    queue: "Queue", "消息队列";
    send_to_device: "Send to it", "向它发送";
    remove_device: "Remove", "移除设备";
    remove_device_warning: "Forgets the device with its tokens, tags and aliases. It comes back when it registers again. This cannot be taken back.", "删除设备及其令牌、标签与别名。设备重新注册后会再次出现。此操作不可撤销。";

    vendors: "Vendors", "厂商通道";
    vendors_empty: "No vendor yet", "还没有厂商通道";
    vendors_empty_lead: "Without a vendor's credential only devices that are online are reached. The vendor “Record” needs no network and is good for a first try.", "没有厂商凭证时只能触达在线设备。“Record” 不需要网络，适合初次试用。";
    add_credential: "Add a credential", "添加凭证";
    not_set: "Not set", "未设置";
    credential_set: "Set", "已设置";
    ends: "ends", "到期";
    credential_name_hint: "An app may have several at one vendor. Empty: default. An existing name is replaced.", "同一厂商可有多个凭证。留空为 default，同名会被替换。";
    credential_now: "Credential in use", "当前凭证";
    rate_second: "Pushes a second", "每秒推送数";
    rate_day: "Pushes a day", "每日推送数";
    rate_hint: "Empty: what the vendor usually allows.", "留空则使用厂商常规限制。";
    no_limit: "no limit", "不限";
    remove_credential: "Remove", "移除凭证";
    remove_credential_warning: "Pushes for this vendor fail from now on. The secret has to be entered again. This cannot be taken back.", "之后发往该厂商的推送都会失败，密钥需要重新填写。此操作不可撤销。";
    try_it: "Try it", "测试凭证";
    try_lead: "Sends one alert to a device token at once, past queue and rate.", "绕过队列与限速，立即向一个设备令牌发送一条通知。";
    trial_good: "The vendor took it.", "厂商已接受。";
    trial_bad: "The vendor did not take it.", "厂商没有接受。";
    took_ms: "{} ms", "耗时 {} 毫秒";
    rotate: "Rotate it, or add another", "更换或新增凭证";
    secret_hint: "Secrets are kept encrypted and never shown again. A new credential is used from the next push on.", "密钥加密保存且不再显示。新凭证从下一条推送开始生效。";
    more_fields: "Further fields", "其他字段";
    more_fields_hint: "A JSON object, as in the vendor's page of the documentation.", "JSON 对象，参见文档中该厂商的页面。";
    recorded: "Newest recorded pushes", "最近记录的推送";
    recorded_none: "Nothing was recorded yet.", "还没有记录。";
    at: "At", "时间";
    answer: "Answer", "应答";

    tags_and_segments: "Tags and segments", "标签与分群";
    segments: "Segments", "分群";
    segments_empty: "No segments yet", "还没有分群";
    segments_empty_lead: "A segment is an expression with a name: who is in it is found at each send.", "分群是有名字的表达式，每次发送时实时计算成员。";
    save_segment: "Save a segment", "保存分群";
    segment_name_hint: "Use it in expressions as segment:name. An existing name is replaced.", "在表达式中写作 segment:名称。同名分群会被替换。";
    description: "Description", "说明";
    remove_segment_warning: "Its name means nothing any more. Messages that were sent to it stay as they are. This cannot be taken back.", "该名称将失效，已发送的消息不受影响。此操作不可撤销。";
    tags_empty: "No device has a tag.", "还没有设备带标签。";
    send_to_it: "Send", "发送";

    policies: "Policies", "发送策略";
    policy: "Policy", "发送策略";
    policies_empty: "No policies yet", "还没有发送策略";
    policies_empty_lead: "A policy says how often and when a message may speak to its recipients: caps, quiet hours, digests.", "发送策略规定消息触达用户的频次与时段：频次上限、免打扰时段、合并提醒。";
    add_policy: "Add a policy", "新增策略";
    policy_rules: "Rules", "规则";
    categories: "Categories", "消息分类";
    policy_name_hint: "Messages name it. An existing name is replaced.", "消息按名称引用。同名策略会被替换。";
    policy_categories_hint: "Messages of these categories that name no policy are under this one.", "未指定策略的这些分类的消息适用本策略。";
    remove_policy_warning: "Messages that name it are ruled by nothing any more; what it holds goes out when its moment comes. This cannot be taken back.", "引用它的消息将不再受限，暂缓的消息到时发出。此操作不可撤销。";
    caps: "Frequency caps", "频次上限";
    caps_hint: "Counted for a user over all devices, else for the device. Leave the number empty to remove one.", "按用户（跨设备）计数，没有用户时按设备计数。留空数量即可删除该条。";
    cap_n: "Cap {}", "上限 {}";
    cap_max: "Messages at most", "最多消息数";
    cap_window: "Within", "时间窗口";
    cap_unit: "Unit", "单位";
    cap_tag: "Only devices with this tag", "仅限带此标签的设备";
    cap_category: "Only this category", "仅限此分类";
    beyond_it: "Beyond it", "超出时";
    meanwhile: "Meanwhile", "期间";
    then_delay: "Delay until it may go", "延后到允许时发送";
    then_drop: "Drop", "丢弃";
    then_delay_word: "delayed", "延后";
    then_drop_word: "dropped", "丢弃";
    unit_seconds: "seconds", "秒";
    unit_minutes: "minutes", "分钟";
    unit_hours: "hours", "小时";
    unit_days: "days", "天";
    tag: "Tag", "标签";
    quiet_hours: "Quiet hours", "免打扰时段";
    quiet_hint: "By the clock of the recipient. Leave both empty for none.", "按接收者当地时间。两项都留空表示不设置。";
    quiet_from: "From", "开始";
    quiet_to: "To", "结束";
    quiet_timezone_hint: "For devices that tell none.", "设备未上报时区时使用。";
    coalesce: "While a device is offline", "设备离线期间";
    coalesce_hint: "What is not pushed waits in the device's queue.", "未推送的消息在设备队列中等待。";
    coalesce_every: "Push every message", "每条都推送";
    coalesce_first: "Push the first message only", "只推送第一条";
    coalesce_digest: "Some messages, then a digest", "先推送若干条，再合并提醒";
    digest_after: "Messages before the digest", "合并前推送条数";
    digest_text: "Text of the digest", "合并提醒文字";
    digest_text_hint: "{n} stands for the number of messages.", "{n} 代表消息数量。";
    sending_pace: "Quota and pace", "额度与速率";
    save_quota: "Save the vendors' daily quotas", "节省厂商每日额度";
    save_quota_hint: "A push waits for a device that is usually online before long, if its credential has a daily rate.", "凭证设有每日额度时，若设备通常很快上线，则等待其上线。";
    policy_rate: "Messages a second at most", "每秒最多消息数";
    policy_rate_hint: "Over all messages of the policy. Empty: no limit.", "本策略所有消息合计。留空表示不限。";
    rule_cap: "At most {} in {}; beyond it: {}", "最多 {} 条（{} 内），超出则{}";
    rule_quiet: "Quiet from {} to {}: {}", "免打扰 {} 至 {}：{}";
    rule_digest: "A digest after {} messages", "{} 条后合并提醒";
    rule_rate: "{} messages a second", "每秒 {} 条";
    no_policy: "By its category, or none", "按消息分类，或不使用";
    urgent: "Urgent: past the policy", "紧急：不受策略限制";
    verdict_held: "Held back: {}.", "暂缓发送：{}。";

    webhooks: "Webhooks", "事件回调";
    webhooks_empty: "No webhooks yet", "还没有事件回调";
    webhooks_empty_lead: "A webhook tells your server what happens: dead tokens, deliveries, messages that are done.", "事件回调会把失效令牌、投递结果、消息完成等通知您的服务器。";
    add_webhook: "Add a webhook", "添加事件回调";
    webhook_secret_once: "This is the secret that signs its calls. It is shown this once: keep it now.", "这是签名密钥，仅显示这一次，请立即保存。";
    events: "Events", "事件";
    event: "Event", "事件";
    events_hint: "Separated by commas; * stands for any: token.invalid, delivery.*, message.*, credential.expiring.", "用逗号分隔，* 代表任意：token.invalid、delivery.*、message.*、credential.expiring。";
    dead_letters: "Given up", "投递失败的事件";
    dead_letters_none: "Nothing was given up.", "没有失败的事件。";
    given_up: "given up", "已放弃";
    attempts_made: "Attempts", "尝试次数";
    webhook_calls: "Newest calls", "最近调用";
    webhook_calls_none: "It was not called yet.", "还没有调用。";
    webhook_delivered: "delivered", "已送达";
    webhook_again: "tried again", "将重试";
    took: "Took", "耗时";
    replay: "Tell again", "重新投递";
    remove_webhook_warning: "What waits for it is dropped. This cannot be taken back.", "等待投递的事件将被丢弃。此操作不可撤销。";

    dead_tokens: "Dead tokens", "失效令牌";
    dead_lead: "Tokens that vendors called dead, oldest first. Nothing is pushed there until the device registers again.", "被厂商判定失效的令牌，最早的在前。设备重新注册前不再向其推送。";
    dead_empty: "No dead tokens", "没有失效令牌";
    dead_empty_lead: "When a vendor says that a device token is not valid any more, it is noted here with the reason.", "厂商报告令牌失效时，会连同原因记录在这里。";
    died_at: "Since", "失效时间";
    download_csv: "Download CSV", "下载 CSV";

    keys: "Keys", "密钥";
    key_id: "Key id", "密钥编号";
    name: "Name", "名称";
    may: "May", "权限";
    created_at: "Made", "创建时间";
    scope_read: "Read", "查看";
    scope_read_hint: "see messages, deliveries, devices", "查看消息、投递与设备";
    scope_send: "Send", "发送";
    scope_send_hint: "send and recall, register devices", "发送、撤回、注册设备";
    scope_admin: "Admin", "管理";
    scope_admin_hint: "all of it: credentials and keys too", "全部权限，包括凭证与密钥";
    scope_missing: "Choose at least one.", "请至少选择一项。";
    keys_empty: "No keys yet", "还没有密钥";
    keys_empty_lead: "A business server sends with a key of its app.", "业务服务器使用应用的密钥发送消息。";
    create_key: "Make a key", "创建密钥";
    key_name_hint: "For you to recognise it, such as the server that uses it.", "便于识别，例如使用它的服务器。";
    key_shown_once: "This is the key. It is shown this once: keep it now.", "这是密钥，仅显示这一次，请立即保存。";
    revoke: "Revoke", "吊销";
    revoke_warning: "Whoever uses this key is refused from now on. This cannot be taken back.", "使用此密钥的请求将立即被拒绝。此操作不可撤销。";
    last_operator: "This is the last key that opens everything: make another one first.", "这是最后一个拥有全部权限的密钥，请先创建另一个。";

    app_id: "App id", "应用编号";
    app_id_hint: "1 to 64 characters: a-z, 0-9, - and _. It stands in addresses and cannot be changed.", "1 至 64 个字符：a-z、0-9、- 与 _。用于地址，创建后不可修改。";
    app_name_hint: "For people.", "便于识别的名称。";
    apps_empty: "No apps", "没有应用";
    apps_empty_lead: "Your key opens no app.", "您的密钥没有可用的应用。";
    apps_going: "Being removed", "正在删除";
    going_since: "Since", "开始时间";
    going_done: "Records removed", "已删除记录";
    held_up_by: "Waits for", "等待原因";
    operation: "Operation", "操作";
    create_app: "Create an app", "创建应用";

    people_empty: "Nobody has a password yet", "还没有人设置密码";
    people_empty_lead: "Add people, so that nobody has to log in with a key.", "添加人员后就无需使用密钥登录。";
    add_person: "Add somebody", "添加人员";
    person_name_hint: "1 to 32 characters: a-z, 0-9, dot, - and _.", "1 至 32 个字符：a-z、0-9、点、- 与 _。";
    person_exists: "There is somebody of this name.", "该用户名已存在。";
    every_app: "Every app", "所有应用";
    password: "Password", "密码";
    password_old: "Old password", "旧密码";
    password_new: "New password", "新密码";
    password_hint: "12 characters or more. A few words are easier to remember than signs.", "至少 12 个字符，几个词语比符号更好记。";
    operator_keys: "Keys that open every app", "可打开所有应用的密钥";
    operator_keys_lead: "The first start made one. Remove it once somebody has a password for everything.", "首次启动时创建。有人拥有全部权限的密码后，建议移除。";
    remove_person_warning: "They are logged out and cannot come in any more. This cannot be taken back.", "对方会立即退出且无法再登录。此操作不可撤销。";

    broker: "Broker", "消息服务器";
    sessions: "Sessions", "会话";
    queues: "Queues", "队列";
    retained: "Retained messages", "保留消息";
    topics: "Topics", "主题";
    connections: "Connections", "连接";
    ready: "ready", "就绪";
    not_ready: "not ready", "未就绪";
    queued_messages: "Queued messages", "排队消息";
    shard_lag: "Lag", "延迟";
    shard_lag_hint: "the slowest shard", "最慢的分片";
    listeners: "Listeners", "监听端口";
    kind: "Kind", "类型";
    address: "Address", "地址";
    certificate_ends: "Certificate ends", "证书到期";
    shards: "Shards", "分片";
    shard: "Shard", "分片";
    subscriptions: "Subscriptions", "订阅";
    mailbox: "Mailbox", "信箱";
    counters: "Counters", "计数器";
    count: "Count", "数值";
    client_id: "Client id", "客户端标识";
    only_slow: "Only slow ones", "只看慢消费者";
    slow: "slow", "慢";
    sessions_empty_lead: "No session is like that.", "没有符合条件的会话。";
    durable: "On disk", "持久";
    listener: "Listener", "监听端口";
    last_packet: "Last packet", "最近数据包";
    unsent: "Not taken by the socket", "套接字未取走";
    in_flight: "In flight", "在途";
    kick: "Disconnect", "断开连接";
    kick_warning: "Ends the network connection. The session stays, and the client may come back at once.", "断开网络连接。会话保留，客户端可立即重连。";
    purge: "Empty the queue", "清空队列";
    purge_warning: "Drops everything that waits and was never sent. This cannot be taken back.", "丢弃所有等待且从未发送的消息。此操作不可撤销。";
    end_session: "End the session", "结束会话";
    end_session_warning: "Subscriptions and queue are gone, on disk too. This cannot be taken back.", "订阅与队列将被删除，磁盘上的也不保留。此操作不可撤销。";
    subscriptions_none: "Nobody subscribes.", "没有订阅。";
    topic_filter: "Topic filter", "主题过滤器";
    group: "Group", "共享组";
    topic: "Topic", "主题";
    size: "Size", "大小";
    queued_at: "Queued", "入队时间";
    queued_waiting: "waiting", "等待";
    queued_sent: "sent", "已发送";
    queued_released: "released", "已释放";
    queue_empty: "Nothing waits.", "没有等待的消息。";
    slow_consumers: "Slow consumers", "慢消费者";
    slow_none: "Everybody keeps up.", "所有客户端都跟得上。";
    longest_queues: "Queues that stand out", "突出的队列";
    queues_none: "Every queue is empty.", "所有队列都是空的。";
    n_queues: "{} sessions have something in their queue. Looked at:", "{} 个会话的队列中有消息。查看时间：";
    by_messages: "Longest", "最长";
    by_bytes: "Largest", "最大";
    by_age: "Oldest", "最久";
    retained_empty: "No retained messages", "没有保留消息";
    retained_empty_lead: "No topic under this filter keeps a message.", "该过滤器下没有主题保留消息。";
    networks: "Networks", "网络";
    networks_lead: "For how long each network lets a connection be silent, as far as devices have found out together. The pale bar holds the idle timeouts of 5 to 75 of 100 paths, the strong one those of 10 to 50; the stroke is the interval that a new device begins with.", "各网络允许连接静默多久（由所有设备共同探明）。浅色条为 100 条路径中第 5 至 75 条的空闲超时，深色条为第 10 至 50 条；竖线为新设备的起始心跳间隔。";
    networks_empty: "No network yet", "暂无网络";
    networks_empty_lead: "Networks appear here once devices connect from other machines and have been silent for a while.", "当设备从其他机器连接并静默一段时间后，网络会出现在这里。";
    radio: "Radio", "接入方式";
    radio_unknown: "not said", "未说明";
    radio_cable: "cable", "有线";
    devices_that_count: "Devices (that count)", "设备（计入统计）";
    silent_deaths: "Silent deaths", "静默断开";
    timeouts_up_to: "Idle timeouts, 0 to {}", "空闲超时（0 至 {}）";
    timeouts_in_words: "Idle timeouts: 5 of 100 paths below {}, half below {}, 75 below {}. New devices begin with {}.", "空闲超时：100 条路径中 5 条低于 {}，一半低于 {}，75 条低于 {}。新设备的起始间隔为 {}。";
    first_interval: "First interval", "起始间隔";
    fixed: "set by configuration", "由配置指定";
    payload: "Payload", "载荷";
    published_at: "Published", "发布时间";
    delete_retained_warning: "The topic keeps no message any more. Subscribers hear nothing of it. This cannot be taken back.", "该主题不再保留消息，订阅者不会收到通知。此操作不可撤销。";
    topics_lead_title: "Look up a topic", "查询主题";
    topics_lead: "Shows who gets a message with this topic, and the last value that it keeps.", "查看哪些客户端会收到该主题的消息，以及保留的最新值。";
    look_up: "Look up", "查询";
    last_value: "Last value", "最新值";
    not_text: "(not text)", "（非文本）";
    receivers: "Who gets it", "接收者";
    publish: "Publish", "发布消息";
    retain: "Keep it on the topic (retain)", "保留在主题上（retain）";

    done_replayed: "The events wait again.", "事件已重新排队。";
    done_sent: "The message is on its way.", "消息已发送。";
    done_tested: "The test is on its way.", "测试消息已发送。";
    done_paused: "No further push goes out until it goes on.", "已暂停，不再推送。";
    done_resumed: "It goes on.", "已继续。";
    done_recalled: "The message is recalled.", "消息已撤回。";
    done_registered: "The device is registered.", "设备已注册。";
    done_removed: "It is removed.", "已移除。";
    done_saved: "It is saved.", "已保存。";
    done_revoked: "The key is revoked.", "密钥已吊销。";
    done_app: "The app is made.", "应用已创建。";
    done_person: "The person can log in now.", "该人员现在可以登录。";
    done_kicked: "The client is disconnected.", "客户端已断开。";
    done_purged: "The queue is empty.", "队列已清空。";
    done_ended: "The session is ended.", "会话已结束。";
    done_deleted: "It is deleted.", "已删除。";
    done_published: "It is published.", "已发布。";

    refused_forbidden: "You may not do this.", "您没有此操作的权限。";
    refused_field: "A field is not what it should be.", "有字段填写不正确。";
    refused_path: "There is no such page.", "没有这个页面。";
    refused_app: "There is no such app.", "没有这个应用。";
    refused_app_exists: "There is an app of this id.", "该应用编号已存在。";
    refused_device: "There is no such device.", "没有这台设备。";
    refused_message: "There is no such message.", "没有这条消息。";
    refused_delivery: "The message was not for this device.", "该消息没有发给这台设备。";
    refused_credential: "There is no credential at this vendor.", "该厂商没有凭证。";
    refused_session: "There is no such session.", "没有这个会话。";
    refused_retained: "The topic keeps no message.", "该主题没有保留消息。";
    refused_not_connected: "The client is not connected.", "客户端未连接。";
    refused_policy: "There is no such policy.", "没有这个策略。";
    refused_changed: "Somebody else changed it meanwhile. Load it again.", "其他人已修改，请重新载入。";
    refused_category: "Another policy has this category.", "该分类已属于另一策略。";
    refused_store: "The server cannot do it now. Try again soon.", "服务器暂时无法处理，请稍后再试。";
    refused_other: "The server refused it ({}).", "服务器拒绝了请求（{}）。";

    statistics: "Statistics", "统计";
    statistics_empty: "Nothing was counted in this time", "该时段没有数据";
    statistics_empty_lead: "Once messages are sent, this shows what became of them. Choose a longer time to see older ones.", "发送消息后，这里会显示投递结果。可选择更长的时段查看更早的数据。";
    range: "Time", "时段";
    range_hour: "Last hour", "最近 1 小时";
    range_day: "Last 24 hours", "最近 24 小时";
    range_week: "Last 7 days", "最近 7 天";
    range_month: "Last 30 days", "最近 30 天";
    range_year: "Last 12 months", "最近 12 个月";
    count_by: "Apart by", "分组";
    by_none: "Nothing", "不分组";
    by_platform: "Platform", "平台";
    by_reason: "Reason of loss", "未达原因";
    by_others: "others", "其他";
    by_nothing: "none", "无";
    show: "Show", "查看";
    per_step: "Deliveries in each {}", "每 {} 的投递";
    times_ack: "Acceptance to acknowledgement, ms", "接收到设备确认（毫秒）";
    times_vendor: "Acceptance to the vendor's acceptance, ms", "接收到厂商接受（毫秒）";
    percentile_50: "half", "50 分位";
    percentile_95: "95 of 100", "95 分位";
    percentile_99: "99 of 100", "99 分位";
    lost_each: "failed or expired", "失败或过期";
    acked_each: "acknowledged", "设备确认";
    vendor_each: "accepted by vendors", "厂商接受";
    targeted_each: "targeted", "目标";
    statistics_counts: "A delivery counts at the time at which it passed a stage, once for each stage. A delivery that a vendor accepted and its device acknowledged later is in both columns. Days are those of UTC.", "投递在到达某一阶段的时刻计数，每个阶段只计一次。厂商接受后又被设备确认的投递同时计入两列。日期按 UTC 划分。";
    statistics_kept: "In steps of this length nothing is kept from before {}.", "该粒度的数据仅保留自 {} 起。";
    suppressed_each: "Not needed", "无需推送";
    refused_each: "Refused", "厂商拒绝";
    value: "Value", "值";
    in_total: "All", "合计";

    live_events: "Events", "事件";
    events_kind: "Kind", "类型";
    events_all: "All kinds", "全部类型";
    events_empty: "Nothing has happened since the server started", "服务器启动以来尚无事件";
    events_empty_lead: "Messages that are sent and done, dead device tokens, failing vendors and credentials that end are shown here as they happen.", "消息发送与完成、失效令牌、厂商故障、凭证到期等会实时显示在这里。";
    events_lead: "The newest 200, as they happen. Webhooks and /v1/events tell programs the same.", "最近 200 条，实时更新。程序可通过 Webhook 或 /v1/events 获取。";
    event_about: "About", "对象";

    audit: "Audit log", "审计日志";
    audit_lead: "Every change by a person or a key. Registrations of devices and small messages of programs are not recorded.", "人员与密钥的每次变更。设备注册与程序发送的小批量消息不记录。";
    audit_empty: "Nothing was changed yet", "还没有变更记录";
    audit_empty_lead: "Whatever is changed here or over the API is recorded, and cannot be taken out without showing.", "在此处或通过 API 的变更都会被记录，任何删改都会被发现。";
    audit_actor: "Who", "操作者";
    audit_actor_hint: "A key's id, or @ and a name.", "密钥编号，或 @ 加用户名。";
    audit_what: "What", "操作";
    audit_from: "From", "来源地址";
    audit_done: "Done", "成功";
    audit_refused: "Refused", "被拒绝";
    audit_stranger: "not let in", "未通过验证";
    audit_export: "Export", "导出";
    audit_verify: "Verify", "校验";
    audit_is_whole: "The log is whole: {} records, the newest is number {} with the hash {}.", "日志完整：共 {} 条，最新编号 {}，哈希 {}。";
    audit_is_broken: "The log is not what it was: record {}: {}.", "日志已被改动：第 {} 条：{}。";
    date_from: "From (UTC)", "开始（UTC）";
    date_to: "To (UTC)", "结束（UTC）";

    n_seconds: "{} s", "{} 秒";
    n_minutes: "{} min", "{} 分钟";
    n_hours: "{} h", "{} 小时";
    n_days: "{} days", "{} 天";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that are the same in Chinese: names, and forms without a word.
    const SAME: &[&str] = &["product"];

    #[test]
    fn both_languages_are_complete_and_ask_for_the_same_values() {
        for (name, english, chinese) in TABLE {
            assert!(!english.trim().is_empty() && !chinese.trim().is_empty(), "{name}");
            assert_eq!(english.matches("{}").count(), chinese.matches("{}").count(), "{name}");
            let is_chinese = chinese.chars().any(|c| ('\u{3000}'..='\u{ffef}').contains(&c));
            assert!(is_chinese || SAME.contains(name), "{name} is not Chinese: {chinese}");
            assert!(
                english.is_ascii() || english.chars().all(|c| (c as u32) < 0x2e80),
                "{name} is not English: {english}"
            );
        }
    }

    #[test]
    fn the_browser_s_language_is_followed_by_its_weights() {
        for (header, wanted) in [
            ("", Language::English),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
            ("en-GB,en;q=0.9,zh;q=0.8", Language::English),
            ("de;q=1, zh-TW;q=0.5, en;q=0.4", Language::Chinese),
            ("fr", Language::English),
            ("zh;q=0, en;q=0.1", Language::English),
        ] {
            assert_eq!(Language::accepted(header), wanted, "{header}");
        }
    }
}
