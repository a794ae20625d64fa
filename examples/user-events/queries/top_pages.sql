-- The pages that are looked at most, and where their visitors come from.
SELECT payload.page AS page,
       count(*) AS views,
       count(DISTINCT key.user_id) AS users,
       mode(payload.referrer) AS main_referrer
FROM analytics.user_events
WHERE event_type = 'page_view'
GROUP BY page
ORDER BY views DESC, page
LIMIT 10
